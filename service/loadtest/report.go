// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Kinds of requests.
const (
	kindStatic = iota
	kindTargeted
	kindBulk
	kinds
)

var kindNames = [kinds]string{"static", "targeted", "bulk"}

// maxRevisions is the number of revisions that are counted separately; all
// others are counted together.
const maxRevisions = 16

// result is the result of one request.
type result struct {
	kind        int
	failure     string
	took        time.Duration
	revision    string
	notModified bool
}

// tally counts results. It is safe for concurrent use.
type tally struct {
	mu          sync.Mutex
	latency     [kinds]*hdrhistogram.Histogram
	requests    [kinds]int64
	errors      [kinds]int64
	byFailure   map[string]int64
	byRevision  map[string]int64
	notModified int64
}

func newTally() *tally {
	t := &tally{byFailure: map[string]int64{}, byRevision: map[string]int64{}}
	for kind := range t.latency {
		t.latency[kind] = newHistogram()
	}
	return t
}

// maxLatency is the longest latency that is recorded; longer ones are recorded
// as this.
const maxLatency = 2 * time.Minute

// newHistogram returns a histogram of microseconds with three significant
// digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency.Microseconds(), 3) }

func (t *tally) add(o result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests[o.kind]++
	if o.failure != "" {
		t.errors[o.kind]++
		t.byFailure[o.failure]++
	}
	if o.notModified {
		t.notModified++
	}
	if o.revision != "" {
		if _, known := t.byRevision[o.revision]; !known && len(t.byRevision) >= maxRevisions {
			o.revision = "others"
		}
		t.byRevision[o.revision]++
	}
	if o.failure == kindRefused {
		// A refused connection fails fast, which would improve the latencies.
		return
	}
	// It only fails for values out of range.
	_ = t.latency[o.kind].RecordValue(min(o.took, maxLatency).Microseconds())
}

// totals returns the number of requests and of errors so far.
func (t *tally) totals() (requests, errors int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind := range kinds {
		requests += t.requests[kind]
		errors += t.errors[kind]
	}
	return requests, errors
}

// Report is the result of a test.
type Report struct {
	URL     string    `json:"url"`
	Started time.Time `json:"started"`
	// Seconds is the time for which requests were sent.
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	// Rate is the configured number of requests per second, absent without a limit.
	Rate float64 `json:"rate,omitempty"`
	// Interrupted means that the test was ended early.
	Interrupted bool  `json:"interrupted,omitempty"`
	Requests    int64 `json:"requests"`
	// RequestsPerSecond is the number of requests per second that were answered or
	// failed.
	RequestsPerSecond float64 `json:"requestsPerSecond"`
	Errors            int64   `json:"errors"`
	// ErrorRate is Errors divided by Requests.
	ErrorRate float64 `json:"errorRate"`
	Latency   Latency `json:"latency"`
	// Kinds are the results by kind of request, in the order static, targeted,
	// bulk.
	Kinds []Kind `json:"kinds"`
	// NotModified counts the bulk evaluations that were answered with 304.
	NotModified int64 `json:"notModified"`
	// ErrorsByKind counts errors by kind.
	ErrorsByKind map[string]int64 `json:"errorsByKind,omitempty"`
	// Revisions counts answers by revision.
	Revisions map[string]int64 `json:"revisions,omitempty"`
	// Verdicts and Passed are set by Judge.
	Verdicts []Verdict `json:"verdicts,omitempty"`
	Passed   bool      `json:"passed"`
}

// Kind is the result for one kind of request.
type Kind struct {
	Name     string  `json:"name"`
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	Latency  Latency `json:"latency"`
}

// Latency holds latencies in milliseconds, without those of refused
// connections.
type Latency struct {
	P50 float64 `json:"p50Ms"`
	P95 float64 `json:"p95Ms"`
	P99 float64 `json:"p99Ms"`
	Max float64 `json:"maxMs"`
}

func (r *run) report(interrupted bool) Report {
	t, took := r.tally, min(time.Since(r.start), r.Duration)
	report := Report{
		URL: r.URL, Started: r.start.UTC(), Seconds: took.Seconds(), Connections: r.Connections, Rate: r.Rate, Interrupted: interrupted,
		NotModified: t.notModified, ErrorsByKind: t.byFailure, Revisions: t.byRevision,
	}
	all := newHistogram()
	for kind, name := range kindNames {
		report.Kinds = append(report.Kinds, Kind{name, t.requests[kind], t.errors[kind], latencyOf(t.latency[kind])})
		all.Merge(t.latency[kind])
	}
	report.Requests, report.Errors = t.totals()
	report.Latency = latencyOf(all)
	report.RequestsPerSecond = float64(report.Requests) / max(took.Seconds(), 1e-3)
	report.ErrorRate = float64(report.Errors) / max(float64(report.Requests), 1)
	return report
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	at := func(quantile float64) float64 { return float64(h.ValueAtQuantile(quantile)) / 1e3 }
	return Latency{P50: at(50), P95: at(95), P99: at(99), Max: float64(h.Max()) / 1e3}
}

// Limits are the limits for a test to pass.
type Limits struct {
	// ErrorRate is the maximum share of requests that may fail.
	ErrorRate float64
	// P95 and P99 are the maximum latencies; 0 is no limit.
	P95, P99 time.Duration
}

// Verdict is the result for one limit.
type Verdict struct {
	Name string `json:"name"`
	// Measured must not exceed Limit: a share for the error rate, else
	// milliseconds.
	Measured float64 `json:"measured"`
	Limit    float64 `json:"limit"`
	Kept     bool    `json:"kept"`
}

// Judge compares the report with the limits. A test that was interrupted or
// sent no requests does not pass.
func (r *Report) Judge(limits Limits) {
	r.Verdicts = []Verdict{{"errorRate", r.ErrorRate, limits.ErrorRate, r.ErrorRate <= limits.ErrorRate}}
	for _, latency := range []struct {
		name     string
		measured float64
		limit    time.Duration
	}{{"p95", r.Latency.P95, limits.P95}, {"p99", r.Latency.P99, limits.P99}} {
		if limit := latency.limit.Seconds() * 1e3; limit > 0 {
			r.Verdicts = append(r.Verdicts, Verdict{latency.name, latency.measured, limit, latency.measured <= limit})
		}
	}
	broken := slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return !v.Kept })
	r.Passed = !broken && !r.Interrupted && r.Requests > 0
}

// String returns the report as text.
func (r Report) String() string {
	pace := "unlimited rate"
	if r.Rate > 0 {
		pace = fmt.Sprintf("%.0f requests per second", r.Rate)
	}
	text := fmt.Sprintf("%s  %.1f s, concurrency %d, %s\n\n", r.URL, r.Seconds, r.Connections, pace)
	text += fmt.Sprintf("  %-10s %10s %8s %10s %10s %10s %10s\n", "", "requests", "errors", "P50 ms", "P95 ms", "P99 ms", "max ms")
	for _, kind := range append(slices.Clone(r.Kinds), Kind{"all", r.Requests, r.Errors, r.Latency}) {
		l := kind.Latency
		text += fmt.Sprintf("  %-10s %10d %8d %10.2f %10.2f %10.2f %10.2f\n", kind.Name, kind.Requests, kind.Errors, l.P50, l.P95, l.P99, l.Max)
	}
	text += fmt.Sprintf("\n  %.0f requests per second; %.3f %% failed; %d bulk evaluations were not modified\n",
		r.RequestsPerSecond, 100*r.ErrorRate, r.NotModified)
	text += counts("failed", r.ErrorsByKind) + counts("answered by", r.Revisions)
	for _, verdict := range r.Verdicts {
		text += "  " + verdict.String() + "\n"
	}
	if r.Interrupted {
		text += "  interrupted: the report is incomplete, and the test has not passed\n"
	}
	return text
}

func counts(what string, of map[string]int64) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(of)) {
		text += fmt.Sprintf("  %s: %s, %d times\n", what, name, of[name])
	}
	return text
}

// String returns the verdict in one line.
func (v Verdict) String() string {
	kept := "met"
	if !v.Kept {
		kept = "EXCEEDED"
	}
	if v.Name == "errorRate" {
		return fmt.Sprintf("limit %s: error rate %.3f %%, at most %.3f %%", kept, 100*v.Measured, 100*v.Limit)
	}
	return fmt.Sprintf("limit %s: %s %.2f ms, at most %.2f ms", kept, v.Name, v.Measured, v.Limit)
}
