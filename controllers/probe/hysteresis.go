// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// thresholds are how many consecutive attempts it takes to change an outcome.
type thresholds struct{ failure, success int }

// state is a Result and what it takes to judge the next attempt.
type state struct {
	Result
	// failures and successes count the attempts of one kind since the last of the other.
	failures, successes int
	// repeats counts the latest failure's reason and message in a row.
	repeats int
	last    Attempt
	watch   loadWatch
}

// step is the state after one more attempt, which ended now.
//
// The first success of all makes an unknown cache healthy at once: someone waits
// for it. A failure that differs from the one on show replaces it only after it
// has repeated failureThreshold times: a cache that is refused and times out by
// turns has one message, not a new one at every probe.
func step(s state, a Attempt, now time.Time, t thresholds) state {
	s.At, s.Failing = now, a.Err != nil
	if a.Err == nil {
		s.watch = s.watch.step(a.Usage, now)
		s.Load = s.watch.load
		return s.succeed(a, now, t)
	}
	return s.fail(a, now, t)
}

func (s state) succeed(a Attempt, now time.Time, t thresholds) state {
	s.failures, s.repeats, s.last = 0, 0, a
	s.successes++
	s.Latency = settle(s.Latency, roundUp125(a.Latency, time.Millisecond))
	if s.Outcome == Unhealthy && s.successes < t.success {
		return s
	}
	return s.become(Healthy, a, now)
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
	case s.Outcome == Unhealthy && (s.repeats >= t.failure || s.shows(a)):
		return s.become(Unhealthy, a, now)
	case s.Outcome != Unhealthy && s.failures >= t.failure:
		return s.become(Unhealthy, a, now)
	case s.Outcome == "":
		return s.become("", a, now)
	}
	return s
}

// shows reports whether a is the attempt that a reader sees already.
func (s state) shows(a Attempt) bool {
	return s.Reason == a.Reason && s.Message == a.Message
}

// become makes a the attempt that a reader sees.
func (s state) become(o Outcome, a Attempt, now time.Time) state {
	if s.Outcome != o {
		s.Since = now
	}
	s.Outcome, s.Reason, s.Message = o, a.Reason, a.Message
	s.Role, s.ReplicationLag = a.Role, a.Lag
	return s
}

// settle keeps the old of two rounded latencies while the new one is next to it.
func settle(old, next time.Duration) time.Duration {
	if old == 0 || old < next && roundUp125(old+1, time.Millisecond) != next {
		return next
	}
	if next < old && roundUp125(next+1, time.Millisecond) != old {
		return next
	}
	return old
}
