// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"maps"
	"reflect"
	"time"
)

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
