// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// aCanary is a canary of b in its only step, 5 % for ten minutes.
type aCanary struct {
	in         Input
	bad, total int64
}

func newCanary(policy Policy) *aCanary {
	c := &aCanary{in: Input{
		Now: noon, Candidate: "b", FullSize: 2, Pods: Pods{Desired: 1, Ready: 1, Updated: 1, Available: 1},
		Spec: Spec{Steps: []Step{{Weight: 5, Duration: 10 * time.Minute}}, Interval: interval, Deadline: time.Hour, Policy: policy},
	}}
	c.next(0, 0)
	return c
}

// next decides after an interval in which so many requests were counted.
func (c *aCanary) next(bad, total int64) Decision {
	c.bad, c.total = c.bad+bad, c.total+total
	c.in.Now = c.in.Now.Add(interval)
	c.in.Evidence = requests(c.in.Now, c.bad, c.total)
	d := Next(c.in)
	c.in.Recorded, c.in.ObservedWeight = d.State, d.Weight
	return d
}

// onlyErrors is a policy with a single check.
func onlyErrors(confidence float64) Policy {
	p := NewPolicy(confidence, map[Check]float64{ErrorRate: 0.001})
	p.MinimumRequests = 100
	return p
}

// How likely a false rollback is was promised when the canary began. Neither another
// confidence nor another number of checks changes that for one that is under way.
func TestRunningCanaryKeepsItsAlpha(t *testing.T) {
	c := newCanary(onlyErrors(0.99))
	c.next(0, 100)
	begun := c.in.Recorded.Policy
	if begun.Alpha < 0.0099 || begun.Alpha > 0.0101 {
		t.Fatalf("alpha is %g, want that of a confidence of 99 %% and one check", begun.Alpha)
	}
	for name, policy := range map[string]Policy{
		"a lower confidence": onlyErrors(0.5),
		"more checks":        NewPolicy(0.99, DefaultLimits()),
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Spec.Policy = policy
			d := c.next(0, 100)
			if got := d.State.Policy.Alpha; got != begun.Alpha {
				t.Errorf("alpha is now %g, was %g", got, begun.Alpha)
			}
			if d := cmp.Diff(begun.Limits, d.State.Policy.Limits); d != "" {
				t.Errorf("other checks are judged (-begun +now):\n%s", d)
			}
		})
	}
	t.Run("and judges by it", func(t *testing.T) {
		// A single failure refutes 0.1 % at an alpha of one half, and not at 0.01.
		young := newCanary(onlyErrors(0.99))
		young.in.Spec.Policy = onlyErrors(0.5)
		if d := young.next(1, 1); d.Rollback != nil {
			t.Errorf("it was rolled back by another alpha: %s", d.Message)
		}
		other := newCanary(onlyErrors(0.5))
		if d := other.next(1, 1); d.Rollback == nil {
			t.Error("one that began with that alpha was not rolled back")
		}
	})
	t.Run("but follows other limits", func(t *testing.T) {
		p := onlyErrors(0.99)
		p.Limits[ErrorRate] = 0.5
		c.in.Spec.Policy = p
		if got := c.next(0, 100).State.Policy.Limits[ErrorRate]; got != 0.5 {
			t.Errorf("the limit is %g, want 0.5", got)
		}
	})
	t.Run("until it is retried", func(t *testing.T) {
		retried := Record{Revision: "b", Canary: &c.in.Recorded}.Again(noon, true, false)
		c.in.Recorded, c.in.Spec.Policy = *retried.Canary, onlyErrors(0.5)
		if got := c.next(0, 100).State.Policy.Alpha; got != 0.5 {
			t.Errorf("alpha of the retry is %g, want 0.5", got)
		}
	})
}

// The same input leads to the same decision, and the input stays as it was: what cannot
// be recorded is decided again.
func TestDecisionsLeaveTheirInputAlone(t *testing.T) {
	policy := onlyErrors(0.99)
	policy.Block, policy.MinimumBlocks = time.Minute, 5
	c := newCanary(policy)
	for n := range int64(40) {
		c.next(n/30, 100)
		in := c.in
		in.Now = in.Now.Add(interval)
		in.Evidence = requests(in.Now, c.bad+100, c.total+200)
		before := asJSON(t, in)
		first := asJSON(t, Next(in))
		if after := asJSON(t, in); after != before {
			t.Fatalf("the input changed:\n%s", cmp.Diff(before, after))
		}
		if second := asJSON(t, Next(in)); second != first {
			t.Fatalf("another decision on the same input:\n%s", cmp.Diff(first, second))
		}
	}
}

// The first of the reasons to roll back counts, and the first of the reasons to hold.
func TestOrderOfChecks(t *testing.T) {
	step := func() Input {
		c := newCanary(onlyErrors(0.99))
		c.next(0, 100)
		return c.in
	}
	for name, c := range map[string]struct {
		change  func(*Input)
		reason  string
		phase   Phase
		message string
	}{
		"a step without anything": {change: func(*Input) {}, phase: Stepping},
		"an abort before failing pods": {change: func(in *Input) {
			in.Commands.Abort, in.Pods.Failure = true, &Failure{Reason: "CrashLoopBackOff"}
		}, reason: ReasonAborted},
		"failing pods before a breach": {change: func(in *Input) {
			in.Pods.Failure, in.Evidence = &Failure{Reason: "CrashLoopBackOff"}, requests(in.Now.Add(interval), 90, 100)
		}, reason: "CrashLoopBackOff"},
		"a breach while paused":  {change: func(in *Input) { in.Commands.Pause, in.Evidence = true, requests(in.Now.Add(interval), 90, 100) }, reason: ReasonBreach},
		"a breach and a promote": {change: func(in *Input) { in.Commands.Promote, in.Evidence = true, requests(in.Now.Add(interval), 90, 100) }, phase: Promoting, message: "Waiting for the candidate at full size"},
		"pods long unavailable":  {change: func(in *Input) { in.Recorded.Progress.UnavailableFor = maxUnavailable + 1 }, reason: ReasonUnavailable},
		"pods unavailable":       {change: func(in *Input) { in.Pods.Available = 0 }, phase: Stepping, message: "Waiting for the candidate's pods"},
		"paused":                 {change: func(in *Input) { in.Commands.Pause = true }, phase: Paused, message: "Paused on request"},
		"paused and resumed":     {change: func(in *Input) { in.Commands.Pause, in.Commands.Resume = true, true }, phase: Stepping},
		"an unhealthy cache, paused": {change: func(in *Input) { in.Commands.Pause, in.SharesCache, in.Probe.Unhealthy = true, true, true },
			phase: Held, message: "The cache that both revisions use is unhealthy"},
		"an unhealthy cache of the candidate alone": {change: func(in *Input) { in.Probe.Unhealthy = true }, phase: Stepping},
		"a route that a person has to fix":          {change: func(in *Input) { in.Gateway = &Gateway{Failure: "No route"} }, phase: Held, message: "No route"},
		"a route that follows":                      {change: func(in *Input) { in.Gateway = &Gateway{} }, phase: Stepping, message: "Waiting for the route to have the candidate's weight"},
		"evidence that is missing":                  {change: func(in *Input) { in.Evidence.Missing = "no pod answers" }, phase: Stepping, message: "A part of the evidence is missing: no pod answers"},
	} {
		t.Run(name, func(t *testing.T) {
			in := step()
			c.change(&in)
			in.Now = in.Now.Add(interval)
			d := Next(in)
			switch {
			case c.reason != "" && (d.Rollback == nil || d.Rollback.Reason != c.reason):
				t.Errorf("the rollback is %+v, want %s", d.Rollback, c.reason)
			case c.reason != "" && (d.Weight != 0 || d.Replicas != 0):
				t.Errorf("after a rollback it has the weight %d and %d replicas", d.Weight, d.Replicas)
			case c.reason == "" && (d.Rollback != nil || d.Phase != c.phase || d.Message != c.message):
				t.Errorf("it is %s (%s), rollback %+v, want %s (%s)", d.Phase, d.Message, d.Rollback, c.phase, c.message)
			}
		})
	}
}

// Before a step is on record the candidate gets no more than it had.
func TestNothingIsGivenBeforeItIsOnRecord(t *testing.T) {
	c := newCanary(onlyErrors(0.99))
	begun := c.in
	if begun.Recorded.Progress.Step != 1 || begun.ObservedWeight != 0 {
		t.Fatalf("step %d begins with the weight %d", begun.Recorded.Progress.Step, begun.ObservedWeight)
	}
	if d := c.next(0, 0); d.Weight != 5 {
		t.Errorf("the step that is on record has the weight %d", d.Weight)
	}
}

func TestReplicasFor(t *testing.T) {
	for _, c := range []struct {
		weight, full int32
		byRatio      bool
		want         int32
	}{
		{5, 2, false, 1}, {5, 40, false, 2}, {50, 3, false, 2}, {100, 3, false, 3},
		{25, 3, true, 1}, {50, 4, true, 4}, {5, 3, true, 1}, {100, 3, true, 3},
	} {
		if got := replicasFor(c.weight, c.full, c.byRatio); got != c.want {
			t.Errorf("%d %% of %d replicas, by ratio %t, are %d, want %d", c.weight, c.full, c.byRatio, got, c.want)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A candidate is neither rolled back nor evaluated while the stable revision has no ready
// pod. What becomes of it depends on whether that ever served, and for how long it does not.
func TestStableRevisionIsDown(t *testing.T) {
	tests := map[string]struct {
		in       func(*Input)
		passed   bool
		rollback string
	}{
		"it never served":                        {in: func(in *Input) { in.Stable.NeverServed = true }, passed: true},
		"it never served, and the canary paused": {in: func(in *Input) { in.Stable.NeverServed, in.Commands.Pause = true, true }},
		"it served a moment ago":                 {in: func(*Input) {}},
		"it has been down for long":              {in: func(in *Input) { in.Recorded.Progress.StableDownFor = maxUnavailable + time.Second }, passed: true},
		"a person promotes the candidate":        {in: func(in *Input) { in.Commands.Promote = true }, passed: true},
		"a person aborts the candidate":          {in: func(in *Input) { in.Commands.Abort = true }, rollback: ReasonAborted},
		"the candidate is not ready": {in: func(in *Input) {
			in.Stable.NeverServed, in.Pods = true, Pods{Desired: 2, Updated: 2}
		}},
		"a pod of the candidate crashes": {in: func(in *Input) { in.Pods.Failure = &Failure{Reason: "CrashLoopBackOff"} }},
		"every pod of the candidate crashes": {in: func(in *Input) {
			in.Pods = Pods{Desired: 2, Updated: 2, Failure: &Failure{Reason: "CrashLoopBackOff"}}
		}, rollback: "CrashLoopBackOff"},
		"the load test failed": {in: func(in *Input) { in.LoadTest = &LoadTestResult{Report: "no report"} }},
		"the deadline passed": {in: func(in *Input) {
			in.Spec.OnInconclusive, in.Recorded.Progress.Elapsed = RollbackInconclusive, 2*time.Hour
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCanary(onlyErrors(0.99))
			c.next(0, 100)
			c.in.Stable.Down = true
			test.in(&c.in)
			before := c.in.Recorded.Progress
			d := c.next(100, 100)
			if d.Passed != test.passed {
				t.Errorf("passed is %v, want %v", d.Passed, test.passed)
			}
			if got := d.Rollback; (got == nil) != (test.rollback == "") || got != nil && got.Reason != test.rollback {
				t.Errorf("the rollback is %v, want %q", got, test.rollback)
			}
			if d.Rollback == nil && d.Replicas != c.in.FullSize {
				t.Errorf("the candidate gets %d replicas, want all %d", d.Replicas, c.in.FullSize)
			}
			if after := d.State.Progress; after.Elapsed != before.Elapsed || after.Observed != before.Observed || after.Step != before.Step {
				t.Errorf("the step goes on: %v, before %v", after, before)
			}
		})
	}
}

// A person who promotes a candidate overrules its load test, but not its pods.
func TestPromotionOverrulesTheLoadTest(t *testing.T) {
	failed := &LoadTestResult{Report: "no report"}
	for name, test := range map[string]struct {
		promote  bool
		failure  *Failure
		rollback string
	}{
		"nobody promotes it":   {rollback: ReasonLoadTestFailed},
		"a person promotes it": {promote: true},
		"its pods do not run":  {promote: true, failure: &Failure{Reason: "CrashLoopBackOff"}, rollback: "CrashLoopBackOff"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCanary(onlyErrors(0.99))
			c.in.Recorded.Progress.Step, c.in.Spec.LoadTest, c.in.LoadTest = 0, true, failed
			c.in.Commands.Promote, c.in.Pods.Failure = test.promote, test.failure
			d := c.next(0, 0)
			if got := d.Rollback; (got == nil) != (test.rollback == "") || got != nil && got.Reason != test.rollback {
				t.Errorf("the rollback is %v, want %q", got, test.rollback)
			}
			if test.rollback == "" && d.Phase != Promoting {
				t.Errorf("the phase is %s, want %s", d.Phase, Promoting)
			}
		})
	}
}

// The share of a step does not count while the Service selects something else than the
// stable revision.
func TestStableRevisionIsReplaced(t *testing.T) {
	c := newCanary(onlyErrors(0.99))
	c.next(0, 100)
	c.next(0, 100)
	c.in.Stable.Replaced = true
	before := c.in.Recorded.Progress
	d := c.next(0, 100)
	if d.Phase != Held || d.State.Progress.Observed != before.Observed || d.State.Progress.Elapsed != before.Elapsed {
		t.Errorf("phase %s, observed for %v, want it held after %v", d.Phase, d.State.Progress.Observed, before.Observed)
	}
}

// inPlace is a canary whose candidate serves in place of the stable revision, which is getting
// its pods back.
func inPlace(pods Pods) *aCanary {
	c := newCanary(onlyErrors(0.99))
	c.next(0, 100)
	c.in.Stable, c.in.FullSize, c.in.Pods = Stable{Down: true, Replaced: true}, 10, pods
	c.in.Serves = true
	c.next(0, 100)
	c.in.Stable.Down = false
	return c
}

// A candidate that serves in place of the stable revision is judged by what it serves, and
// does so for a limited time.
func TestCandidateServesInPlace(t *testing.T) {
	full := Pods{Desired: 10, Ready: 10, Updated: 10, Available: 10}
	t.Run("it is rejected for its errors", func(t *testing.T) {
		c := inPlace(full)
		if d := c.next(50, 100); d.Rollback == nil || d.Rollback.Reason != ReasonBreach || d.StandsIn {
			t.Errorf("the decision is %+v, want a rollback for a breach", d.Rollback)
		}
	})
	t.Run("it is not judged with fewer pods than all traffic needs", func(t *testing.T) {
		c := inPlace(Pods{Desired: 10, Ready: 3, Updated: 10, Available: 3})
		if d := c.next(50, 100); d.Rollback != nil {
			t.Errorf("it was rejected: %s", d.Rollback.Message)
		}
	})
	t.Run("it serves for a limited time", func(t *testing.T) {
		c := inPlace(full)
		if d := c.next(0, 100); !d.StandsIn {
			t.Error("it serves no more as soon as a pod of the stable revision is ready")
		}
		for range maxUnavailable / interval {
			c.next(0, 100)
		}
		if d := c.next(0, 100); d.StandsIn || d.Passed {
			t.Errorf("it serves on: stands in %v, passed %v", d.StandsIn, d.Passed)
		}
	})
	t.Run("it does not because somebody edited the Service", func(t *testing.T) {
		c := newCanary(onlyErrors(0.99))
		c.in.Stable.Replaced, c.in.Serves = true, true
		if d := c.next(0, 100); d.StandsIn {
			t.Error("it may serve")
		}
	})
}

// More pods than its step needs, which a candidate is to have while it serves in place of the
// stable revision, may not come. That, and a Deployment that is not observed by its controller,
// is no reason to reject it.
func TestCandidateWithoutTheSizeOfTheStableRevision(t *testing.T) {
	tests := map[string]Pods{
		"some pods do not come":           {Desired: 10, Ready: 1, Updated: 10, Available: 1},
		"they exceeded their deadline":    {Desired: 10, Ready: 1, Updated: 10, Available: 1, Failure: &Failure{Reason: "ProgressDeadlineExceeded"}},
		"their Deployment is not current": {Desired: 10, Ready: 1, Outdated: true, Failure: &Failure{Reason: "ProgressDeadlineExceeded"}},
	}
	for name, pods := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCanary(onlyErrors(0.99))
			c.next(0, 100)
			c.in.FullSize, c.in.Pods, c.in.Stable.Down = 10, pods, true
			for range 2 * maxUnavailable / interval {
				if d := c.next(0, 100); d.Rollback != nil {
					t.Fatalf("it was rejected while nothing else serves: %v", d.Rollback)
				}
			}
			if c.in.Pods.Outdated {
				return
			}
			c.in.Stable = Stable{}
			if d := c.next(0, 100); d.Rollback != nil {
				t.Errorf("it was rejected when the stable revision returned: %v", d.Rollback)
			}
		})
	}
	t.Run("a Deployment that is not current in a step", func(t *testing.T) {
		c := newCanary(onlyErrors(0.99))
		c.next(0, 100)
		c.in.Pods = Pods{Desired: 1, Ready: 1, Outdated: true}
		for range 2 * maxUnavailable / interval {
			if d := c.next(0, 100); d.Rollback != nil {
				t.Fatalf("it was rejected: %v", d.Rollback)
			}
		}
	})
	t.Run("fewer than its step needs", func(t *testing.T) {
		c := newCanary(onlyErrors(0.99))
		c.next(0, 100)
		c.in.Pods = Pods{Desired: 1, Updated: 1}
		for range 2 * maxUnavailable / interval {
			if d := c.next(0, 100); d.Rollback != nil {
				return
			}
		}
		t.Error("it was not rejected")
	})
}
