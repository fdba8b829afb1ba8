// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bufio"
	"bytes"
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

// families are the metric families of one process, by name.
type families map[string]*dto.MetricFamily

// parse parses the Prometheus text format.
func parse(r io.Reader) (families, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("parsing metrics: %w", err)
	}
	return parsed, nil
}

// series returns the series of a family that pass all filters.
func (f families) series(name string, filters ...filter) []*dto.Metric {
	var found []*dto.Metric
	for _, m := range f[name].GetMetric() {
		if !slices.ContainsFunc(filters, func(keep filter) bool { return !keep(m) }) {
			found = append(found, m)
		}
	}
	return found
}

// filter reports whether to include a series.
type filter func(*dto.Metric) bool

// labelled includes the series that have the label with a matching value.
func labelled(name string, matches func(string) bool) filter {
	return func(m *dto.Metric) bool {
		for _, label := range m.GetLabel() {
			if label.GetName() == name {
				return matches(label.GetValue())
			}
		}
		return false
	}
}

// not inverts a filter.
func (keep filter) not(m *dto.Metric) bool { return !keep(m) }

func is(value string) func(string) bool {
	return func(v string) bool { return v == value }
}

func isNot(value string) func(string) bool {
	return func(v string) bool { return v != value }
}

// evaluation includes the endpoints that evaluate flags.
var evaluation = labelled("endpoint", func(v string) bool { return v == "single" || v == "bulk" })

// forwarded includes the requests that were forwarded to a candidate.
var forwarded = labelled("track", is(config.TrackCandidate))

// failed includes the responses with a server error.
var failed = labelled("code", func(v string) bool {
	code, err := strconv.Atoi(v)
	return err != nil || code >= 500
})

// maxEvents is the largest number of events that a float64 sample represents exactly.
const maxEvents = 1 << 53

// sum adds counters; ok is false if there are none or one is not a count.
func sum(series []*dto.Metric) (n int64, ok bool) {
	for _, m := range series {
		value := m.GetCounter().GetValue()
		if m.GetCounter() == nil || !isCount(value) {
			return 0, false
		}
		n += int64(value)
		if n > maxEvents {
			return 0, false
		}
	}
	return n, len(series) > 0
}

// isCount reports whether a sample is a possible number of events: not NaN,
// infinite, negative, fractional, or too large to be exact.
func isCount(v float64) bool { return v >= 0 && v <= maxEvents && v == math.Trunc(v) }

// proportion counts bad events among all events; ok is false if the counts are not
// available. Without a series of bad events there are none: a counter may have no
// series before its first event.
func proportion(all, bad []*dto.Metric) (c analysis.Counts, ok bool) {
	total, ok := sum(all)
	if !ok {
		return analysis.Counts{}, false
	}
	n, ok := sum(bad)
	if !ok && len(bad) > 0 {
		return analysis.Counts{}, false
	}
	return analysis.Counts{Bad: n, Total: total}, true
}

// slower counts the events of histograms that took longer than a limit; ok is false
// if the counts are not available.
func slower(series []*dto.Metric, limit time.Duration) (c analysis.Counts, ok bool) {
	for _, m := range series {
		fast, total, ok := within(m.GetHistogram().GetBucket(), limit.Seconds())
		if !ok {
			return analysis.Counts{}, false
		}
		c = c.Plus(analysis.Counts{Bad: total - fast, Total: total})
		if c.Total > maxEvents {
			return analysis.Counts{}, false
		}
	}
	return c, len(series) > 0
}

// within counts the events of one histogram: those up to the first bucket boundary
// that is not below the limit, and all of them. The flag service has boundaries at
// 100 and 300 ms. Above the last finite boundary ok is false, because a count would
// make every event fast.
func within(buckets []*dto.Bucket, limit float64) (fast, total int64, ok bool) {
	total = -1 // until the +Inf bucket was found
	boundary := math.Inf(1)
	for _, bucket := range buckets {
		count := bucket.GetCumulativeCount()
		if count > maxEvents {
			return 0, 0, false
		}
		switch bound := bucket.GetUpperBound(); {
		case math.IsInf(bound, 1):
			total = int64(count)
		case bound >= limit*(1-1e-9) && bound < boundary:
			boundary, fast = bound, int64(count)
		}
	}
	return fast, total, !math.IsInf(boundary, 1) && fast <= total
}

// counters collect the counts of the checks that are available.
type counters canary.Counters

func (c counters) add(check canary.Check, counts analysis.Counts, ok bool) {
	if ok {
		c[check] = counts
	}
}

// addRequests adds the checks on requests that a process answered itself. Those that
// it forwarded to a candidate count for the candidate.
func (c counters) addRequests(f families, t Target) {
	all := f.series(config.MetricRequests, evaluation, forwarded.not)
	counts, ok := proportion(all, f.series(config.MetricRequests, evaluation, forwarded.not, failed))
	c.add(canary.ErrorRate, counts, ok)
	c.addLatencies(f.series(config.MetricRequestDuration, evaluation, forwarded.not), t)
}

// addForwarded adds the checks on requests that a stable pod forwarded to the
// candidate.
func (c counters) addForwarded(f families, t Target) {
	candidate := labelled("revision", is(t.Candidate))
	all := f.series(config.MetricSplitRequests, candidate)
	counts, ok := proportion(all, f.series(config.MetricSplitRequests, candidate, labelled("result", isNot(config.SplitOK))))
	c.add(canary.ErrorRate, counts, ok)
	c.addLatencies(f.series(config.MetricSplitDuration, candidate), t)
}

func (c counters) addLatencies(series []*dto.Metric, t Target) {
	p95, ok := slower(series, t.LatencyP95)
	c.add(canary.LatencyP95, p95, ok)
	p99, ok := slower(series, t.LatencyP99)
	c.add(canary.LatencyP99, p99, ok)
}

// addCache adds the checks on cache lookups.
func (c counters) addCache(f families, t Target) {
	all := f.series(config.MetricCacheRequests)
	counts, ok := proportion(all, f.series(config.MetricCacheRequests, labelled("result", isNot("hit"))))
	c.add(canary.CacheHitRate, counts, ok)
	misses, ok := slower(f.series(config.MetricCacheMissDuration), t.MissLatencyP95)
	c.add(canary.MissLatencyP95, misses, ok)
}

// metricStarted distinguishes a process from its restarts.
const metricStarted = "process_start_time_seconds"

var errNoStart = errors.New("missing metric " + metricStarted)

// streams returns the streams of one process of a revision.
func streams(f families, id, revision string, t Target) ([]canary.Stream, error) {
	started, ok := gauge(f, metricStarted)
	if !ok {
		return nil, errNoStart
	}
	id += "/" + strconv.FormatFloat(started, 'f', 2, 64)
	own := canary.Stream{ID: id, Revision: revision, Counts: canary.Counters{}}
	counters(own.Counts).addCache(f, t)
	if revision == t.Candidate && t.Split {
		return []canary.Stream{own}, nil
	}
	counters(own.Counts).addRequests(f, t)
	own.Local = own.Counts[canary.ErrorRate].Total
	if revision == t.Candidate {
		own.Local = 0
	}
	if !t.Split {
		return []canary.Stream{own}, nil
	}
	own.Local, _ = sum(f.series(config.MetricSplitLocal))
	forwarded := canary.Stream{ID: id + "/" + t.Candidate, Revision: t.Candidate, Counts: canary.Counters{}}
	counters(forwarded.Counts).addForwarded(f, t)
	return []canary.Stream{own, forwarded}, nil
}

func gauge(f families, name string) (float64, bool) {
	for _, m := range f[name].GetMetric() {
		value := m.GetGauge().GetValue()
		return value, m.GetGauge() != nil && !math.IsNaN(value) && !math.IsInf(value, 0)
	}
	return 0, false
}

// Limits of the metrics of one pod. They are scanned in constant memory, so that only
// what is kept costs memory: the families of the checks are about 100 lines of 7 KB.
const (
	// maxBytes and maxLines of everything; a flag service with 1,000 flags has 300 KB.
	maxBytes = 4 << 20
	maxLines = 1 << 16
	// maxLine is the length of the longest line.
	maxLine = 4 << 10
	// maxKeptBytes and maxKeptLines of the families of the checks.
	maxKeptBytes = 128 << 10
	maxKeptLines = 2 << 10
)

// Reasons why the metrics of a pod are not read.
var (
	errTooLarge    = fmt.Errorf("metrics exceed %d bytes, %d lines or %d bytes in a line", maxBytes, maxLines, maxLine)
	errTooManyKept = fmt.Errorf("the metrics of the checks exceed %d bytes or %d lines", maxKeptBytes, maxKeptLines)
	errTruncated   = errors.New("the last line of the metrics is truncated")
)

// wanted are the names of the lines to keep, with the families' suffixes.
var wanted = wantedNames()

func wantedNames() map[string]bool {
	names := map[string]bool{config.MetricSnapshotInfo: true, config.MetricCacheForeign: true}
	for _, name := range scalars {
		names[name] = true
	}
	for _, name := range histograms {
		for _, suffix := range []string{"", bucketSuffix, "_sum", "_count"} {
			names[name+suffix] = true
		}
	}
	return names
}

// keepWanted returns the lines of the Prometheus text format that are about the families
// of the checks, without their help. The text is a pod's and may be anything.
func keepWanted(r io.Reader) ([]byte, error) {
	limited := &io.LimitedReader{R: r, N: maxBytes + 1}
	reader := bufio.NewReaderSize(limited, maxLine)
	var kept []byte
	for lines, keptLines := 0, 0; ; lines++ {
		line, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull), limited.N == 0, lines == maxLines:
			return nil, errTooLarge
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, errTruncated
		case errors.Is(err, io.EOF):
			return kept, nil
		case err != nil:
			return nil, fmt.Errorf("reading metrics: %w", err)
		}
		if !wanted[string(nameOf(line))] {
			continue
		}
		keptLines++
		if kept = append(kept, line...); len(kept) > maxKeptBytes || keptLines > maxKeptLines {
			return nil, errTooManyKept
		}
	}
}

// typeLine begins a line with the type of a family.
var typeLine = []byte("# TYPE ")

// nameOf returns the name of the series or of the family whose type a line has.
func nameOf(line []byte) []byte {
	name := bytes.TrimPrefix(line, typeLine)
	if end := bytes.IndexAny(name, "{ \t\r\n"); end >= 0 {
		name = name[:end]
	}
	return name
}
