// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/config"
)

// maxCost of a hostile text in bytes of heap. Allocations are counted, which are no
// fewer than what is in use at the same time.
const maxCost = 8 << 20

// allocated returns the bytes that a function allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// lines repeats a line with a number in it up to a size in bytes.
func lines(size int, format string) string {
	var text strings.Builder
	for i := 0; text.Len() < size; i++ {
		fmt.Fprintf(&text, format, i)
	}
	return text.String()
}

// hostileMetrics are texts of a pod that are each as large as they can be.
func hostileMetrics() map[string]string {
	manyLabels := config.MetricRequests + "{" + strings.Repeat(`a="",`, 700) + "} 1\n"
	return map[string]string{
		"short series of other families": lines(maxBytes, "m%d 1\n")[:maxBytes],
		"many empty lines":               strings.Repeat("\n", maxBytes),
		"one long line":                  strings.Repeat("x", maxBytes),
		"a long line of a check":         config.MetricRequests + `{code="` + strings.Repeat("x", maxLine) + "\"} 1\n",
		"many series of a check":         lines(maxBytes, config.MetricRequests+"{a=\"%d\"} 1\n"),
		"many labels of a check":         strings.Repeat(manyLabels, maxKeptBytes/len(manyLabels)),
		"too many labels of a check":     strings.Repeat(manyLabels, maxKeptBytes),
		"many buckets of a check":        "# TYPE " + config.MetricRequestDuration + " histogram\n" + lines(maxKeptBytes-8<<10, config.MetricRequestDuration+"_bucket{a=\"%d\",le=\"1\"} 1\n"),
		"many types of a check":          lines(maxKeptBytes-8<<10, "# TYPE "+config.MetricRequests+" counter\n#%d\n"),
	}
}

func TestHostileMetricsCostBoundedMemory(t *testing.T) {
	for name, text := range hostileMetrics() {
		t.Run(name, func(t *testing.T) {
			var err error
			cost := allocated(func() {
				var kept []byte
				if kept, err = keepWanted(strings.NewReader(text)); err != nil {
					return
				}
				_, err = parse(bytes.NewReader(kept))
			})
			if cost > maxCost {
				t.Errorf("%d bytes of metrics cost %d bytes, want at most %d; result: %v", len(text), cost, maxCost, err)
			}
		})
	}
}

func TestMetricsBeyondALimitAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"bytes":                 {lines(maxBytes+1, "# a comment that is long enough to be no limit of lines, whatever it says: "+strings.Repeat("x", 100)+" %d\n"), errTooLarge},
		"lines":                 {strings.Repeat("\n", maxLines+1), errTooLarge},
		"a line":                {strings.Repeat("x", maxLine) + "\n", errTooLarge},
		"series of the checks":  {strings.Repeat(config.MetricSplitLocal+" 1\n", maxKeptLines+1), errTooManyKept},
		"bytes of the checks":   {strings.Repeat(config.MetricSplitLocal+`{a="`+strings.Repeat("x", 1000)+"\"} 1\n", maxKeptBytes/1000), errTooManyKept},
		"a last line cut short": {config.MetricSplitLocal + " 1", errTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := keepWanted(strings.NewReader(c.text)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestOnlyFamiliesOfTheChecksAreKept(t *testing.T) {
	text := testdata(t, "stable.txt")
	kept, err := keepWanted(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parse(bytes.NewReader(kept))
	if err != nil {
		t.Fatal(err)
	}
	for name := range parsed {
		if !wanted[name] {
			t.Errorf("family %s is kept, which no check reads", name)
		}
	}
	all, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range all {
		if wanted[name] && parsed[name].String() == "" || wanted[name] && len(parsed[name].GetMetric()) != len(family.GetMetric()) {
			t.Errorf("family %s is not kept whole", name)
		}
	}
}

// One sample of sixteen hostile pods costs no more than that of one.
func TestSampleOfHostilePodsCostsBoundedMemory(t *testing.T) {
	s, target := newNetwork(t), aTarget()
	hostile := hostileMetrics()["short series of other families"]
	for range maxConcurrentScrapes {
		s.add(target.Stable, respondWith(hostile))
	}
	source := s.source()
	if cost := allocated(func() { _ = source.Sample(t.Context(), target) }); cost > maxCost {
		t.Errorf("a sample of %d pods cost %d bytes, want at most %d", maxConcurrentScrapes, cost, maxCost)
	}
}

// Prometheus is chosen by a tenant, and its responses may be anything.
func TestHostilePrometheusIsBounded(t *testing.T) {
	now := time.Now().Unix()
	fill := func(size int, sample string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, vector(strings.TrimSuffix(lines(size, sample+","), ",")))
		}
	}
	for name, c := range map[string]struct {
		respond http.HandlerFunc
		want    string
	}{
		"many samples": {fill(maxResponseBytes-1<<10, `{"metric":{"a":"%d"},"value":[1,"1"]}`), errTooManySamples.Error()},
		"many processes": {fill(256<<10, fmt.Sprintf(`{"metric":{"__name__":"process_start_time_seconds","pod":"p%%[1]d"},"value":[%d,"1"]},{"metric":{"flagcache":"scraped","pod":"p%%[1]d"},"value":[%d,"%d"]}`,
			now, now, now)), errTooManyPods.Error()},
		"a pod with a long name": {fill(256<<10, fmt.Sprintf(`{"metric":{"flagcache":"scraped","pod":"%%d%s"},"value":[%d,"1"]}`, strings.Repeat("x", maxPodName), now)), errNotCounters.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			sample := samplePrometheus(t, c.respond)
			if sample.Missing != c.want || len(sample.Streams) > 2*maxPods {
				t.Errorf("got %d streams, missing %q, want %q", len(sample.Streams), sample.Missing, c.want)
			}
		})
	}
}
