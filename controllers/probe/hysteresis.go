// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// thresholds are the numbers of consecutive attempts that change an outcome.
type thresholds struct{ failure, success int }

// state is a Result and the state of the hysteresis.
type state struct {
	Result
	// failures and successes count consecutive attempts of the same kind.
	failures, successes int
	// repeats counts consecutive failures with the same reason and message.
	repeats int
	last    Attempt
	tracker loadTracker
}

// step returns the state after an attempt that ended now.
//
// The first success makes an unknown cache healthy immediately, because a rollout waits
// for it. A failure replaces the reported one only after failureThreshold repetitions: a
// cache that alternates between two failures keeps one message.
func step(s state, a Attempt, now time.Time, t thresholds) state {
	s.At, s.Failing = now, a.Err != nil
	if a.Err == nil {
		s.tracker = s.tracker.step(a.Usage, now)
		s.Load = s.tracker.load
		return s.succeed(a, now, t)
	}
	return s.fail(a, now, t)
}

func (s state) succeed(a Attempt, now time.Time, t thresholds) state {
	s.failures, s.repeats, s.last = 0, 0, a
	s.successes++
	s.Latency = damp(s.Latency, roundUp125(a.Latency, time.Millisecond))
	if s.Outcome == Unhealthy && s.successes < t.success {
		return s
	}
	return s.report(Healthy, a, now)
}

func (s state) fail(a Attempt, now time.Time, t thresholds) state {
	s.successes = 0
	s.failures++
	s.repeats++
	if a.Reason != s.last.Reason || a.Message != s.last.Message {
		s.repeats = 1
	}
	s.last = a
	switch {
	case s.Outcome == Unhealthy && (s.repeats >= t.failure || s.reports(a)):
		return s.report(Unhealthy, a, now)
	case s.Outcome != Unhealthy && s.failures >= t.failure:
		return s.report(Unhealthy, a, now)
	case s.Outcome == "":
		return s.report("", a, now)
	}
	return s
}

// reports reports whether the result already has the reason and message of a.
func (s state) reports(a Attempt) bool {
	return s.Reason == a.Reason && s.Message == a.Message
}

// report sets the outcome, and the reason and message of a.
func (s state) report(o Outcome, a Attempt, now time.Time) state {
	if s.Outcome != o {
		s.Since = now
	}
	s.Outcome, s.Reason, s.Message = o, a.Reason, a.Message
	s.Role, s.ReplicationLag = a.Role, a.Lag
	return s
}

// damp returns the old of two rounded latencies if the new one is an adjacent step.
func damp(old, next time.Duration) time.Duration {
	if old == 0 || old < next && roundUp125(old+1, time.Millisecond) != next {
		return next
	}
	if next < old && roundUp125(next+1, time.Millisecond) != old {
		return next
	}
	return old
}
