// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// attempts are the attempts of a sequence by letter.
var attempts = map[byte]Attempt{
	'o': {Reason: ReasonHealthy, Message: "Fine.", Role: "master", Latency: time.Millisecond},
	'r': failed(ReasonConnectionRefused, ""),
	't': failed(ReasonTimedOut, ""),
	'w': failed(ReasonReadOnlyReplica, "slave"),
}

func failed(r Reason, role string) Attempt {
	return Attempt{Err: errors.New("Broken."), Reason: r, Message: "Broken.", Role: role}
}

// runSequence returns the state after each attempt of a sequence: the outcome as H, U
// or ?, and in brackets the reason if it changed.
func runSequence(sequence string, t thresholds) string {
	start := time.Unix(0, 0)
	s := state{Result: Result{Since: start}}
	var text strings.Builder
	for i := range len(sequence) {
		before := s
		s = step(s, attempts[sequence[i]], start.Add(time.Duration(i+1)*time.Second), t)
		text.WriteString(map[Outcome]string{"": "?", Healthy: "H", Unhealthy: "U"}[s.Outcome])
		if s.Reason != before.Reason {
			text.WriteString("(" + string(s.Reason) + ")")
		}
	}
	return text.String()
}

func TestStep(t *testing.T) {
	t.Parallel()
	normal := thresholds{failure: 3, success: 2}
	impatient := thresholds{failure: 1, success: 1}
	for name, c := range map[string]struct {
		sequence   string
		thresholds thresholds
		want       string
	}{
		"the first success is healthy immediately": {
			"o", normal, "H(Healthy)",
		},
		"unknown with a reason until the failure threshold": {
			"rrr", normal, "?(ConnectionRefused)?U",
		},
		"unknown with the reason of the last failure": {
			"rtt", normal, "?(ConnectionRefused)?(TimedOut)U",
		},
		"a success after first failures is healthy": {
			"rro", normal, "?(ConnectionRefused)?H(Healthy)",
		},
		"unhealthy after three failures, not two": {
			"orrorrr", normal, "H(Healthy)HHHHHU(ConnectionRefused)",
		},
		"different failures add up, with the last reason": {
			"ortr", normal, "H(Healthy)HHU(ConnectionRefused)",
		},
		"healthy after two successes, not one": {
			"orrrorrroo", normal, "H(Healthy)HHU(ConnectionRefused)UUUUUH(Healthy)",
		},
		"a new reason is reported after it repeated": {
			"rrrtttt", normal, "?(ConnectionRefused)?UUUU(TimedOut)U",
		},
		"alternating failures keep one reason": {
			"rrrtrtrtrt", normal, "?(ConnectionRefused)?UUUUUUUU",
		},
		"thresholds of one": {
			"orotr", impatient, "H(Healthy)U(ConnectionRefused)H(Healthy)U(TimedOut)U(ConnectionRefused)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, runSequence(c.sequence, c.thresholds)); diff != "" {
				t.Errorf("sequence %s (-want +got):\n%s", c.sequence, diff)
			}
		})
	}
}

func TestStepKeepsTheTimeOfTheLastChange(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1000, 0)
	s := state{Result: Result{Since: begin}}
	at := func(second int) time.Time { return begin.Add(time.Duration(second) * time.Second) }
	for i, letter := range []byte("oowww") {
		s = step(s, attempts[letter], at(i+1), thresholds{failure: 3, success: 2})
	}
	want := Result{
		Outcome: Unhealthy, Reason: ReasonReadOnlyReplica, Message: "Broken.", Role: "slave",
		Latency: time.Millisecond, Since: at(5), At: at(5), Failing: true,
	}
	if diff := cmp.Diff(want, s.Result); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s = step(s, attempts['o'], at(6), thresholds{failure: 3, success: 2})
	if !s.Since.Equal(at(5)) || !s.At.Equal(at(6)) || s.Failing {
		t.Errorf("since %v at %v, failing: %v; want the change at %v and a probe that succeeded at %v", s.Since, s.At, s.Failing, at(5), at(6))
	}
}

func TestDamp(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct{ old, next, want time.Duration }{
		"first latency":                  {0, 5 * ms, 5 * ms},
		"one step up":                    {5 * ms, 10 * ms, 5 * ms},
		"one step down":                  {10 * ms, 5 * ms, 10 * ms},
		"two steps up":                   {5 * ms, 20 * ms, 20 * ms},
		"two steps down":                 {20 * ms, 5 * ms, 5 * ms},
		"no change":                      {2 * ms, 2 * ms, 2 * ms},
		"far up, over a power of ten":    {ms, time.Second, time.Second},
		"far down, over a power of ten":  {time.Second, ms, ms},
		"one step, over a power of ten":  {500 * ms, time.Second, 500 * ms},
		"two steps, over a power of ten": {200 * ms, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := damp(c.old, c.next); got != c.want {
				t.Errorf("damp(%v, %v) = %v, want %v", c.old, c.next, got, c.want)
			}
		})
	}
}

func TestRoundUp125(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]time.Duration{
		0:                       time.Millisecond,
		time.Microsecond:        time.Millisecond,
		time.Millisecond:        time.Millisecond,
		1001 * time.Microsecond: 2 * time.Millisecond,
		3 * time.Millisecond:    5 * time.Millisecond,
		6 * time.Millisecond:    10 * time.Millisecond,
		250 * time.Millisecond:  500 * time.Millisecond,
		1200 * time.Millisecond: 2 * time.Second,
	} {
		if got := roundUp125(d, time.Millisecond); got != want {
			t.Errorf("%v rounds to %v, want %v", d, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	base := Result{Outcome: Healthy, Reason: ReasonHealthy, Message: "Fine.", Role: "master"}
	with := func(change func(*Result)) Result {
		r := base
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		other Result
		same  bool
	}{
		"nothing differs":     {base, true},
		"times and latency":   {with(func(r *Result) { r.Latency, r.At, r.Since = 1, time.Unix(1, 0), time.Unix(1, 0) }), true},
		"a single failure":    {with(func(r *Result) { r.Failing = true }), true},
		"the outcome":         {with(func(r *Result) { r.Outcome = Unhealthy }), false},
		"the reason":          {with(func(r *Result) { r.Reason = ReasonProbeFailed }), false},
		"the message":         {with(func(r *Result) { r.Message = "Other." }), false},
		"the role":            {with(func(r *Result) { r.Role = "slave" }), false},
		"the replication lag": {with(func(r *Result) { r.ReplicationLag = time.Second }), false},
		"the load":            {with(func(r *Result) { r.Load = LoadLow }), false},
	} {
		if got := base.Same(c.other); got != c.same {
			t.Errorf("%s: Same is %v, want %v", name, got, c.same)
		}
	}
}
