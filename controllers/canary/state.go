// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"time"
)

// State is a canary between two reconciles: what the next decision needs besides what is
// observed then.
type State struct {
	// Policy of the last decision.
	Policy   Policy
	Progress Progress
	Ledger   Ledger
}

// Progress is how far the steps of a canary got. Durations are sums of the time between
// reconciles, of which at most two intervals count each.
type Progress struct {
	// Step that is under way, counted from 1; 0 before the first, and one more than there
	// are when all passed.
	Step int
	// StepStartedAt is when the step began; for people.
	StepStartedAt time.Time
	// DecidedAt is when the last decision was made.
	DecidedAt time.Time
	// SharedAt is since when the candidate was observed to have the share of the step, with
	// nothing that holds it; zero while it has not. Neither time nor requests from before
	// count for the step.
	SharedAt time.Time
	// Elapsed is how long the step has been running, Observed how long with evidence.
	Elapsed, Observed time.Duration
	// HealthyFor is how long nothing has been failing that both revisions depend on.
	HealthyFor time.Duration
	// UnavailableFor is how long the candidate's pods have been unavailable.
	UnavailableFor time.Duration
	// StableDownFor is how long the stable revision has had no ready pod, or has been
	// replaced by the candidate for that reason.
	StableDownFor time.Duration
	// SuspectedAt is when a check of the cache was first over its limit without it being
	// known whether the candidate or the cache is to blame; zero where it is known.
	SuspectedAt time.Time
	// Inconclusive: the step's deadline passed, and the canary is paused for it.
	Inconclusive bool
	// Resumed: the command to resume was followed. It ends another pause for too little
	// evidence only after it was withdrawn and given again.
	Resumed bool
	// Forced: a person promoted the candidate, whatever the verdict.
	Forced bool
	// LoadTest is the result of the load test, nil before its end.
	LoadTest *LoadTestResult
}

// LoadTestResult is how a load test ended.
type LoadTestResult struct {
	Passed bool
	// Report is the load tester's own, in JSON, or why there is none.
	Report string
}

// describeFailure describes how a load test failed.
func (l LoadTestResult) describeFailure() string {
	if summary := l.Summary(); summary != "" {
		return "the load test failed: " + summary
	}
	return "the load test did not finish: " + l.Report
}

// Summary is what a load test measured, "" where there is no report of it.
func (l LoadTestResult) Summary() string {
	var report struct {
		Requests  int64   `json:"requests"`
		ErrorRate float64 `json:"errorRate"`
		Latency   struct {
			P95 *float64 `json:"p95Ms"`
		} `json:"latency"`
	}
	if json.Unmarshal([]byte(l.Report), &report) != nil || report.Latency.P95 == nil {
		return ""
	}
	return fmt.Sprintf("of %d requests %s failed, and the P95 was %.1f ms",
		report.Requests, Percent(report.ErrorRate), *report.Latency.P95)
}

// beginStep starts a step.
func (s State) beginStep(step int, now time.Time) State {
	p := &s.Progress
	p.Step, p.StepStartedAt = step, now.UTC().Truncate(time.Second)
	p.SharedAt, p.Elapsed, p.Observed, p.UnavailableFor, p.Inconclusive = time.Time{}, 0, 0, 0, false
	s.Ledger = s.Ledger.beginStep()
	return s
}

// decideAt returns the progress at a time, and how long after the last decision that is.
// A reconcile that comes sooner than an interval and has no new sample does not count:
// the record would change with each, and each change triggers a reconcile.
func (p Progress) decideAt(now time.Time, sampled bool, interval time.Duration) (Progress, time.Duration) {
	if !p.DecidedAt.IsZero() && !sampled && now.Sub(p.DecidedAt).Abs() < interval {
		return p, 0
	}
	gap := countedTime(p.DecidedAt, now, interval)
	p.DecidedAt = now.UTC()
	return p, gap
}

// prolonged returns for how long a state has been observed that lasts on. The time before it
// was first observed does not count; it is a second then, which tells it from no time at all.
func prolonged(lasted, gap time.Duration) time.Duration {
	if lasted == 0 {
		return time.Second
	}
	return lasted + gap
}

// maxUnobserved is how long there may be no decision on record, if the interval is not longer,
// for what was observed before and after to count for the time between.
const maxUnobserved = time.Minute

// unobserved reports whether so much time has passed since the last decision that it is not
// known what happened meanwhile: the operator was down, or could not record anything.
func (p Progress) unobserved(now time.Time, interval time.Duration) bool {
	return now.Sub(p.DecidedAt) > max(2*interval, maxUnobserved)
}

// restInterval is how often counts are recorded of a canary that waits for a person, or
// for its first step.
// Counters are sums, so what is not recorded now is counted with the next record.
const restInterval = time.Minute

// atRest keeps the recorded state where a decision changes nothing but clocks, and, for a
// canary that waits, counts that were recorded a moment ago: each record
// would be a write, and each write another reconcile.
func (d Decision) atRest(in Input) Decision {
	if d.Rollback != nil || in.mattersAsTimePasses(d.State) {
		return d
	}
	before, after := in.Recorded, d.State
	waits := after.Progress.Inconclusive || in.Commands.paused() || after.Progress.Step == 0
	if waits && in.Now.Sub(before.Progress.DecidedAt).Abs() < restInterval {
		before.Ledger, after.Ledger = Ledger{}, Ledger{}
	}
	if reflect.DeepEqual(withoutClocks(before, waits), withoutClocks(after, waits)) {
		d.State = in.Recorded
		if before.Progress.Inconclusive && d.Phase == Paused {
			d.Message = describeInconclusive(in, in.Recorded, in.Recorded.Judge())
		}
	}
	return d
}

// mattersAsTimePasses reports whether a sum of time that changed is still needed: the
// time without a failure until it exceeds the lag of the evidence, that with evidence
// until the step has lasted.
func (in Input) mattersAsTimePasses(after State) bool {
	before, now := in.Recorded.Progress, after.Progress
	if now.HealthyFor < before.HealthyFor || now.HealthyFor > before.HealthyFor && before.HealthyFor <= in.Evidence.Lag && in.Evidence.Lag > 0 {
		return true
	}
	step := now.Step
	return now.Observed != before.Observed && step > 0 && step <= len(in.Spec.Steps) && before.Observed < in.Spec.Steps[step-1].Duration
}

// withoutClocks returns a state without what changes by time alone: for one that waits,
// the time in the step, too.
func withoutClocks(s State, waits bool) State {
	s.Progress.DecidedAt, s.Progress.HealthyFor = time.Time{}, 0
	if waits {
		s.Progress.Elapsed, s.Progress.Observed = 0, 0
	}
	s.Ledger.SampledAt = time.Time{}
	s.Ledger.RecentCandidate, s.Ledger.RecentStable = nil, nil
	if s.Ledger.Blocks != nil {
		blocks := *s.Ledger.Blocks
		blocks.OpenFor = 0
		s.Ledger.Blocks = &blocks
	}
	s.Ledger.Streams = maps.Clone(s.Ledger.Streams)
	for id, reading := range s.Ledger.Streams {
		reading.Missed = 0
		s.Ledger.Streams[id] = reading
	}
	return s
}
