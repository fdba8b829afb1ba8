// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
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

func is(value string) func(string) bool {
	return func(v string) bool { return v == value }
}

func isNot(value string) func(string) bool {
	return func(v string) bool { return v != value }
}

// evaluation keeps the endpoints that evaluate flags.
var evaluation = labelled("endpoint", func(v string) bool { return v == "single" || v == "bulk" })

// failed keeps what the service is to blame for.
var failed = labelled("code", func(v string) bool {
	code, err := strconv.Atoi(v)
	return err != nil || code >= 500
})

// sum of counters; ok is false if there are none or one is no count.
func sum(series []*dto.Metric) (n int64, ok bool) {
	for _, m := range series {
		value := m.GetCounter().GetValue()
		if m.GetCounter() == nil || !isCount(value) {
			return 0, false
		}
		n += int64(value)
	}
	return n, len(series) > 0
}

// isCount says whether a sample can be a number of events: not NaN, infinite,
// negative, or too large to be exact.
func isCount(v float64) bool { return v >= 0 && v <= 1<<53 && !math.IsNaN(v) }

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
// false if they cannot be had. They are counted at the first edge of a bucket that
// is not under the limit: the flag service has one at 100 and one at 300 ms.
func slower(series []*dto.Metric, limit time.Duration) (c analysis.Counts, ok bool) {
	for _, m := range series {
		h := m.GetHistogram()
		if h == nil {
			return analysis.Counts{}, false
		}
		total := h.GetSampleCount()
		fast := total
		for _, bucket := range h.GetBucket() {
			if bucket.GetUpperBound() >= limit.Seconds()*(1-1e-9) {
				fast = bucket.GetCumulativeCount()
				break
			}
		}
		if fast > total || total > 1<<53 {
			return analysis.Counts{}, false
		}
		c = c.Plus(analysis.Counts{Bad: int64(total - fast), Total: int64(total)})
	}
	return c, len(series) > 0
}

// counters collect checks of which there are counts.
type counters map[analysis.Check]analysis.Counts

func (c counters) add(check analysis.Check, counts analysis.Counts, ok bool) {
	if ok {
		c[check] = counts
	}
}

// requests are the checks that are about requests which a process answered by
// itself. What a candidate answered for it is the candidate's.
func (c counters) requests(f families, t Target) {
	handed := labelled("track", is(config.TrackCandidate))
	own := func(m *dto.Metric) bool { return !handed(m) }
	all := f.series(config.MetricRequests, evaluation, own)
	counts, ok := proportion(all, f.series(config.MetricRequests, evaluation, own, failed))
	c.add(analysis.ErrorRate, counts, ok)
	c.latencies(f.series(config.MetricRequestDuration, evaluation, own), t)
}

// split are the checks about requests that a stable pod handed to the candidate.
func (c counters) split(f families, t Target) {
	candidate := labelled("revision", is(t.Candidate))
	all := f.series(config.MetricSplitRequests, candidate)
	counts, ok := proportion(all, f.series(config.MetricSplitRequests, candidate, labelled("result", isNot(config.SplitOK))))
	c.add(analysis.ErrorRate, counts, ok)
	c.latencies(f.series(config.MetricSplitDuration, candidate), t)
}

func (c counters) latencies(series []*dto.Metric, t Target) {
	p95, ok := slower(series, t.LatencyP95)
	c.add(analysis.LatencyP95, p95, ok)
	p99, ok := slower(series, t.LatencyP99)
	c.add(analysis.LatencyP99, p99, ok)
}

// cache are the checks about look-ups in Redis.
func (c counters) cache(f families, t Target) {
	all := f.series(config.MetricCacheRequests)
	counts, ok := proportion(all, f.series(config.MetricCacheRequests, labelled("result", isNot("hit"))))
	c.add(analysis.CacheHitRate, counts, ok)
	misses, ok := slower(f.series(config.MetricCacheMissDuration), t.MissLatencyP95)
	c.add(analysis.MissLatencyP95, misses, ok)
}

// streams of one process of a revision.
func streams(f families, id, revision string, t Target) []Stream {
	started, ok := gauge(f, "process_start_time_seconds")
	if !ok {
		return nil
	}
	id += "/" + strconv.FormatFloat(started, 'f', 2, 64)
	own := Stream{ID: id, Revision: revision, Counts: counters{}}
	counters(own.Counts).cache(f, t)
	if revision == t.Candidate && t.Split {
		return []Stream{own}
	}
	counters(own.Counts).requests(f, t)
	own.Kept = own.Counts[analysis.ErrorRate].Total
	if revision == t.Candidate {
		own.Kept = 0
	}
	if !t.Split {
		return []Stream{own}
	}
	own.Kept, _ = sum(f.series(config.MetricSplitLocal))
	handed := Stream{ID: id + "/" + t.Candidate, Revision: t.Candidate, Counts: counters{}}
	counters(handed.Counts).split(f, t)
	return []Stream{own, handed}
}

func gauge(f families, name string) (float64, bool) {
	for _, m := range f[name].GetMetric() {
		value := m.GetGauge().GetValue()
		return value, m.GetGauge() != nil && !math.IsNaN(value) && !math.IsInf(value, 0)
	}
	return 0, false
}
