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

// maxRevisions bounds how many revisions are told apart; the others are counted
// together.
const maxRevisions = 16

// outcome is what became of one request.
type outcome struct {
	kind        int
	trouble     string
	took        time.Duration
	revision    string
	notModified bool
}

// tally counts outcomes. It is safe for concurrent use.
type tally struct {
	mu          sync.Mutex
	latency     [kinds]*hdrhistogram.Histogram
	requests    [kinds]int64
	errors      [kinds]int64
	byTrouble   map[string]int64
	byRevision  map[string]int64
	notModified int64
}

func newTally() *tally {
	t := &tally{byTrouble: map[string]int64{}, byRevision: map[string]int64{}}
	for kind := range t.latency {
		t.latency[kind] = newHistogram()
	}
	return t
}

// longest is the longest latency that is told from longer ones.
const longest = 2 * time.Minute

// newHistogram holds microseconds, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), 3) }

func (t *tally) add(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests[o.kind]++
	if o.trouble != "" {
		t.errors[o.kind]++
		t.byTrouble[o.trouble]++
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
	if o.trouble == kindRefused {
		// Refusing is fast; it would flatter the latencies.
		return
	}
	// It fails for values out of range only, and this one is within.
	_ = t.latency[o.kind].RecordValue(min(o.took, longest).Microseconds())
}

// soFar is how many requests there were, and errors among them.
func (t *tally) soFar() (requests, errors int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind := range kinds {
		requests += t.requests[kind]
		errors += t.errors[kind]
	}
	return requests, errors
}

// Report is what a test found.
type Report struct {
	URL     string    `json:"url"`
	Started time.Time `json:"started"`
	// Seconds is how long requests were sent.
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	// Rate is how many requests were due in a second, absent if there was no limit.
	Rate float64 `json:"rate,omitempty"`
	// Interrupted says that the test ended before its time.
	Interrupted bool  `json:"interrupted,omitempty"`
	Requests    int64 `json:"requests"`
	// RequestsPerSecond were answered or failed.
	RequestsPerSecond float64 `json:"requestsPerSecond"`
	Errors            int64   `json:"errors"`
	// ErrorRate is Errors by Requests.
	ErrorRate float64 `json:"errorRate"`
	Latency   Latency `json:"latency"`
	// Kinds are the requests of each kind, in the order static, targeted, bulk.
	Kinds []Kind `json:"kinds"`
	// NotModified counts the bulk evaluations that were answered with 304.
	NotModified int64 `json:"notModified"`
	// ErrorsByKind counts errors by what they were.
	ErrorsByKind map[string]int64 `json:"errorsByKind,omitempty"`
	// Revisions counts answers by the revision that gave them.
	Revisions map[string]int64 `json:"revisions,omitempty"`
	// Verdicts and Passed are set by Judge.
	Verdicts []Verdict `json:"verdicts,omitempty"`
	Passed   bool      `json:"passed"`
}

// Kind is the part of a test with requests of one kind.
type Kind struct {
	Name     string  `json:"name"`
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	Latency  Latency `json:"latency"`
}

// Latency is in milliseconds, of the requests that were not refused.
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
		NotModified: t.notModified, ErrorsByKind: t.byTrouble, Revisions: t.byRevision,
	}
	all := newHistogram()
	for kind, name := range kindNames {
		report.Kinds = append(report.Kinds, Kind{name, t.requests[kind], t.errors[kind], latencyOf(t.latency[kind])})
		all.Merge(t.latency[kind])
	}
	report.Requests, report.Errors = t.soFar()
	report.Latency = latencyOf(all)
	report.RequestsPerSecond = float64(report.Requests) / max(took.Seconds(), 1e-3)
	report.ErrorRate = float64(report.Errors) / max(float64(report.Requests), 1)
	return report
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	at := func(quantile float64) float64 { return float64(h.ValueAtQuantile(quantile)) / 1e3 }
	return Latency{P50: at(50), P95: at(95), P99: at(99), Max: float64(h.Max()) / 1e3}
}

// Limits are what a service must keep to pass.
type Limits struct {
	// ErrorRate is the largest share of requests that may fail.
	ErrorRate float64
	// P95 and P99 bound latencies; 0 does not.
	P95, P99 time.Duration
}

// Verdict is how one limit was kept.
type Verdict struct {
	Name string `json:"name"`
	// Measured may not be more than Limit: a share for the error rate, else
	// milliseconds.
	Measured float64 `json:"measured"`
	Limit    float64 `json:"limit"`
	Kept     bool    `json:"kept"`
}

// Judge holds the report to the limits. A test that was interrupted, or in which
// nothing was asked, does not pass: silence is no success.
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

// String is the report for people.
func (r Report) String() string {
	pace := "as fast as they are answered"
	if r.Rate > 0 {
		pace = fmt.Sprintf("%.0f requests due a second", r.Rate)
	}
	text := fmt.Sprintf("%s  %.1f s, up to %d at a time, %s\n\n", r.URL, r.Seconds, r.Connections, pace)
	text += fmt.Sprintf("  %-10s %10s %8s %10s %10s %10s %10s\n", "", "requests", "errors", "P50 ms", "P95 ms", "P99 ms", "max ms")
	for _, kind := range append(slices.Clone(r.Kinds), Kind{"all", r.Requests, r.Errors, r.Latency}) {
		l := kind.Latency
		text += fmt.Sprintf("  %-10s %10d %8d %10.2f %10.2f %10.2f %10.2f\n", kind.Name, kind.Requests, kind.Errors, l.P50, l.P95, l.P99, l.Max)
	}
	text += fmt.Sprintf("\n  %.0f requests a second; %.3f %% failed; %d bulk evaluations were not modified\n",
		r.RequestsPerSecond, 100*r.ErrorRate, r.NotModified)
	text += counts("failed", r.ErrorsByKind) + counts("answered by", r.Revisions)
	for _, verdict := range r.Verdicts {
		text += "  " + verdict.String() + "\n"
	}
	if r.Interrupted {
		text += "  interrupted: this is what there was until then, and does not count as passed\n"
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

// String is the verdict in a line.
func (v Verdict) String() string {
	kept := "kept"
	if !v.Kept {
		kept = "BROKEN"
	}
	if v.Name == "errorRate" {
		return fmt.Sprintf("limit %s: error rate %.3f %%, at most %.3f %%", kept, 100*v.Measured, 100*v.Limit)
	}
	return fmt.Sprintf("limit %s: %s %.2f ms, at most %.2f ms", kept, v.Name, v.Measured, v.Limit)
}
