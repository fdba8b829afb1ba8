// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/service/config"
)

// families are the metrics of one process, by name.
type families map[string]*dto.MetricFamily

// parse reads Prometheus' text format.
func parse(r io.Reader) (families, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("parsing metrics: %w", err)
	}
	return parsed, nil
}

// series are the metrics of a family that a filter lets through.
func (f families) series(name string, filters ...filter) []*dto.Metric {
	var found []*dto.Metric
	for _, m := range f[name].GetMetric() {
		if !slices.ContainsFunc(filters, func(keep filter) bool { return !keep(m) }) {
			found = append(found, m)
		}
	}
	return found
}

// filter says whether a series counts.
type filter func(*dto.Metric) bool

// labelled keeps the series whose label has a value that is wanted.
func labelled(name string, wanted func(string) bool) filter {
	return func(m *dto.Metric) bool {
		for _, label := range m.GetLabel() {
			if label.GetName() == name {
				return wanted(label.GetValue())
			}
		}
		return false
	}
}

// not keeps what a filter drops.
func (keep filter) not(m *dto.Metric) bool { return !keep(m) }

func is(value string) func(string) bool {
	return func(v string) bool { return v == value }
}

func isNot(value string) func(string) bool {
	return func(v string) bool { return v != value }
}

// evaluation keeps the endpoints that evaluate flags.
var evaluation = labelled("endpoint", func(v string) bool { return v == "single" || v == "bulk" })

// handed keeps what a candidate answered.
var handed = labelled("track", is(config.TrackCandidate))

// failed keeps what the service is to blame for.
var failed = labelled("code", func(v string) bool {
	code, err := strconv.Atoi(v)
	return err != nil || code >= 500
})

// mostEvents is the largest number of events that a sample can hold exactly.
const mostEvents = 1 << 53

// sum of counters; ok is false if there are none or one is no count.
func sum(series []*dto.Metric) (n int64, ok bool) {
	for _, m := range series {
		value := m.GetCounter().GetValue()
		if m.GetCounter() == nil || !isCount(value) {
			return 0, false
		}
		n += int64(value)
		if n > mostEvents {
			return 0, false
		}
	}
	return n, len(series) > 0
}

// isCount says whether a sample can be a number of events: not NaN, infinite,
// negative, a fraction, or too large to be exact.
func isCount(v float64) bool { return v >= 0 && v <= mostEvents && v == math.Trunc(v) }

// proportion counts bad events and all of them; ok is false if those cannot be had.
// That no bad one was counted yet may be that their series does not exist yet.
func proportion(all, bad []*dto.Metric) (c analysis.Counts, ok bool) {
	total, ok := sum(all)
	if !ok {
		return analysis.Counts{}, false
	}
	n, some := sum(bad)
	if !some && len(bad) > 0 {
		return analysis.Counts{}, false
	}
	return analysis.Counts{Bad: n, Total: total}, true
}

// slower counts the events of histograms that took longer than a limit; ok is
// false if they cannot be had.
func slower(series []*dto.Metric, limit time.Duration) (c analysis.Counts, ok bool) {
	for _, m := range series {
		fast, total, ok := within(m.GetHistogram().GetBucket(), limit.Seconds())
		if !ok {
			return analysis.Counts{}, false
		}
		c = c.Plus(analysis.Counts{Bad: total - fast, Total: total})
		if c.Total > mostEvents {
			return analysis.Counts{}, false
		}
	}
	return c, len(series) > 0
}

// within counts the events of one histogram: those up to the first edge that is
// not under the limit, and all of them. The flag service has edges at 100 and at
// 300 ms. Over the last edge nothing is known, so there is no count and not one
// that would call every event fast.
func within(buckets []*dto.Bucket, limit float64) (fast, total int64, ok bool) {
	total = -1 // until the bucket of all events was seen
	edge := math.Inf(1)
	for _, bucket := range buckets {
		count := bucket.GetCumulativeCount()
		if count > mostEvents {
			return 0, 0, false
		}
		switch bound := bucket.GetUpperBound(); {
		case math.IsInf(bound, 1):
			total = int64(count)
		case bound >= limit*(1-1e-9) && bound < edge:
			edge, fast = bound, int64(count)
		}
	}
	return fast, total, !math.IsInf(edge, 1) && fast <= total
}

// counters collect checks of which there are counts.
type counters map[canary.Check]analysis.Counts

func (c counters) add(check canary.Check, counts analysis.Counts, ok bool) {
	if ok {
		c[check] = counts
	}
}

// requests are the checks that are about requests which a process answered by
// itself. What a candidate answered for it is the candidate's.
func (c counters) requests(f families, t Target) {
	all := f.series(config.MetricRequests, evaluation, handed.not)
	counts, ok := proportion(all, f.series(config.MetricRequests, evaluation, handed.not, failed))
	c.add(canary.ErrorRate, counts, ok)
	c.latencies(f.series(config.MetricRequestDuration, evaluation, handed.not), t)
}

// split are the checks about requests that a stable pod handed to the candidate.
func (c counters) split(f families, t Target) {
	candidate := labelled("revision", is(t.Candidate))
	all := f.series(config.MetricSplitRequests, candidate)
	counts, ok := proportion(all, f.series(config.MetricSplitRequests, candidate, labelled("result", isNot(config.SplitOK))))
	c.add(canary.ErrorRate, counts, ok)
	c.latencies(f.series(config.MetricSplitDuration, candidate), t)
}

func (c counters) latencies(series []*dto.Metric, t Target) {
	p95, ok := slower(series, t.LatencyP95)
	c.add(canary.LatencyP95, p95, ok)
	p99, ok := slower(series, t.LatencyP99)
	c.add(canary.LatencyP99, p99, ok)
}

// cache are the checks about look-ups in Redis.
func (c counters) cache(f families, t Target) {
	all := f.series(config.MetricCacheRequests)
	counts, ok := proportion(all, f.series(config.MetricCacheRequests, labelled("result", isNot("hit"))))
	c.add(canary.CacheHitRate, counts, ok)
	misses, ok := slower(f.series(config.MetricCacheMissDuration), t.MissLatencyP95)
	c.add(canary.MissLatencyP95, misses, ok)
}

// metricStarted tells one life of a process from the next.
const metricStarted = "process_start_time_seconds"

var errNoStart = errors.New("there is no " + metricStarted)

// streams of one process of a revision.
func streams(f families, id, revision string, t Target) ([]Stream, error) {
	started, ok := gauge(f, metricStarted)
	if !ok {
		return nil, errNoStart
	}
	id += "/" + strconv.FormatFloat(started, 'f', 2, 64)
	own := Stream{ID: id, Revision: revision, Counts: counters{}}
	counters(own.Counts).cache(f, t)
	if revision == t.Candidate && t.Split {
		return []Stream{own}, nil
	}
	counters(own.Counts).requests(f, t)
	own.Kept = own.Counts[canary.ErrorRate].Total
	if revision == t.Candidate {
		own.Kept = 0
	}
	if !t.Split {
		return []Stream{own}, nil
	}
	own.Kept, _ = sum(f.series(config.MetricSplitLocal))
	theirs := Stream{ID: id + "/" + t.Candidate, Revision: t.Candidate, Counts: counters{}}
	counters(theirs.Counts).split(f, t)
	return []Stream{own, theirs}, nil
}

func gauge(f families, name string) (float64, bool) {
	for _, m := range f[name].GetMetric() {
		value := m.GetGauge().GetValue()
		return value, m.GetGauge() != nil && !math.IsNaN(value) && !math.IsInf(value, 0)
	}
	return 0, false
}
