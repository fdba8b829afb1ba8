// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantiles(t *testing.T) {
	var hundred []time.Duration
	for n := range 100 {
		hundred = append(hundred, time.Duration(100-n))
	}
	for _, test := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]time.Duration{7}, 0.99, 7}, {[]time.Duration{3, 1, 2}, 0.5, 2}, {[]time.Duration{3, 1, 2}, 0.99, 3},
	} {
		if got := quantile(test.of, test.q); got != test.want {
			t.Errorf("the quantile %v of %d durations is %d, not %d", test.q, len(test.of), got, test.want)
		}
	}
}

func TestOperatorsWritesAreCounted(t *testing.T) {
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	line := func(user, verb, namespace, resource, subresource string, after time.Duration) string {
		return `{"user":{"username":"` + user + `"},"verb":"` + verb + `","objectRef":{"namespace":"` + namespace + `","resource":"` + resource +
			`","subresource":"` + subresource + `"},"requestReceivedTimestamp":"` + at.Add(after).Format("2006-01-02T15:04:05.000000Z") + `"}` + "\n"
	}
	const operator = "system:serviceaccount:flagcache-system:flagcache-controller-manager"
	log := line(operator, "patch", "shop", "configmaps", "", time.Second) +
		line(operator, "patch", "shop", "flagcaches", "status", 2*time.Second) +
		line(operator, "create", "shop", "events", "", 3*time.Second) +
		line(operator, "create", "shop", "deployments", "", 3*time.Second) +
		line(operator, "get", "shop", "configmaps", "", time.Second) +
		line(operator, "patch", "other", "configmaps", "", time.Second) +
		line(operator, "patch", "shop", "configmaps", "", time.Hour) +
		line("system:serviceaccount:shop:flagcache-controller-manager", "patch", "shop", "configmaps", "", time.Second) +
		`{"user":{"username":`
	var got writes
	if err := got.read(strings.NewReader(log), "shop", at, at.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(writes{ConfigMaps: 1, Status: 1, Events: 1, Other: 1}, got); diff != "" {
		t.Errorf("the writes are (-want +got):\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	all := result{Pods: 3, Case: caseAll, Writes: writes{ConfigMaps: 2, Status: 1}}
	all.record([]time.Duration{100 * time.Millisecond, 300 * time.Millisecond}, 0)
	all.record([]time.Duration{100 * time.Millisecond, 1200 * time.Millisecond}, 1)
	text := report{Started: time.Now(), Results: []result{all}}.render()
	for _, want := range []string{"# Benchmarks of the delivery of flags\n", "0.30 s", "1.20 s", "**not met**", "1.00 |", "0.50 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
