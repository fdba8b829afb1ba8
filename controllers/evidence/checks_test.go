// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/service/config"
)

// The metrics of the flag service, and so the default queries to Prometheus, have the
// events of every check in the table, at its default limit of latency.
func TestEveryCheckIsCounted(t *testing.T) {
	var text strings.Builder
	fmt.Fprintf(&text, "# TYPE %s gauge\n%s 1\n", metricStarted, metricStarted)
	for name, labels := range map[string]string{
		config.MetricRequests: `endpoint="single",code="200",track="stable"`, config.MetricCacheRequests: `result="hit"`,
	} {
		fmt.Fprintf(&text, "# TYPE %s counter\n%s{%s} 3\n", name, name, labels)
	}
	for name, labels := range map[string]string{
		config.MetricRequestDuration: `endpoint="single",track="stable",`, config.MetricCacheMissDuration: "",
	} {
		fmt.Fprintf(&text, "# TYPE %s histogram\n", name)
		for _, edge := range []string{"0.1", "0.3", "+Inf"} {
			fmt.Fprintf(&text, "%s_bucket{%sle=%q} 3\n", name, labels, edge)
		}
		fmt.Fprintf(&text, "%s_sum{%s} 1\n%s_count{%s} 3\n", name, strings.TrimSuffix(labels, ","), name, strings.TrimSuffix(labels, ","))
	}
	parsed, err := parse(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	slow := map[canary.Check]time.Duration{}
	for _, c := range canary.Checks() {
		slow[c.Check] = c.Slow
	}
	found, err := streams(parsed, "uid", "a", Target{
		Candidate: "a", LatencyP95: slow[canary.LatencyP95], LatencyP99: slow[canary.LatencyP99], MissLatencyP95: slow[canary.MissLatencyP95],
	})
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(found[0].Counts))
	if d := cmp.Diff(slices.Sorted(slices.Values(canary.Names())), got); d != "" {
		t.Errorf("the checks and what is counted differ (-checks +counted):\n%s", d)
	}
}
