// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"testing"
	"time"
)

// counting is a canary in its first step whose candidate has its share, and has had two
// samples with it.
func counting(t *testing.T) *aCanary {
	t.Helper()
	c := newCanary(onlyErrors(0.99))
	for range 4 {
		c.next(0, 100)
	}
	if p := c.in.Recorded.Progress; p.Observed != 2*interval || p.Elapsed != 2*interval || c.inStep() != 200 {
		t.Fatalf("observed for %s, running for %s, with %d requests", p.Observed, p.Elapsed, c.inStep())
	}
	return c
}

// inStep is how many requests count for the step.
func (c *aCanary) inStep() int64 { return c.in.Recorded.Ledger.requestsInStep(ErrorRate) }

// decide decides after a time, with another sample if there is one, and records that.
func (c *aCanary) decide(after time.Duration, requested int64, sampled bool) Decision {
	c.in.Now, c.total = c.in.Now.Add(after), c.total+requested
	if sampled {
		c.in.Evidence = requests(c.in.Now, c.bad, c.total)
	}
	d := Next(c.in)
	c.in.Recorded = d.State
	return d
}

// outage is longer than the operator is expected to record nothing.
const outage = 90 * time.Second

// interruptions are what keeps a step from counting.
var interruptions = map[string]func(*Input){
	"its pods are unavailable":              func(in *Input) { in.Pods.Ready, in.Pods.Available = 0, 0 },
	"its Deployment is not observed":        func(in *Input) { in.Pods = Pods{Desired: 1, Ready: 1, Outdated: true} },
	"its share is not written":              func(in *Input) { in.ObservedWeight = 0 },
	"its share is that of an earlier step":  func(in *Input) { in.ObservedWeight-- },
	"its route has another weight":          func(in *Input) { in.Gateway = &Gateway{MinWeight: 1, MaxWeight: 5} },
	"a gateway does not accept its route":   func(in *Input) { in.Gateway = &Gateway{Waiting: "Waiting", MinWeight: 5, MaxWeight: 5} },
	"a person paused it":                    func(in *Input) { in.Commands.Pause = true },
	"the cache of both is unhealthy":        func(in *Input) { in.SharesCache, in.Probe.Unhealthy = true, true },
	"it serves in place of the stable one":  func(in *Input) { in.Stable.Replaced, in.Serves = true, true },
	"the stable revision has no ready pods": func(in *Input) { in.Stable.Down = true },
}

// Neither time nor requests count for a step from before the candidate was observed to have its
// share, with its pods, and with nothing that held it: however long nothing could be recorded.
func TestNothingCountsBeforeAStepHasItsShare(t *testing.T) {
	for name, interrupt := range interruptions {
		t.Run(name, func(t *testing.T) {
			c := counting(t)
			shared := c.in
			interrupt(&c.in)
			c.decide(interval, 0, true)
			before, requested := c.in.Recorded.Progress, c.inStep()
			for range 3 {
				c.decide(interval, 100, true)
			}
			c.in.Now = c.in.Now.Add(outage)
			recorded, now, evidence := c.in.Recorded, c.in.Now, c.in.Evidence
			c.in = shared
			c.in.Recorded, c.in.Now, c.in.Evidence = recorded, now, evidence

			c.decide(0, 0, false)
			c.decide(time.Second, 1000, true)
			if p := c.in.Recorded.Progress; p.Observed > before.Observed+time.Second || p.Elapsed > before.Elapsed+time.Second {
				t.Errorf("a second after it ended %s are observed and %s elapsed, before it %s and %s", p.Observed, p.Elapsed, before.Observed, before.Elapsed)
			}
			if n := c.inStep(); n != requested {
				t.Errorf("%d requests count for the step, want %d as before", n, requested)
			}
			before = c.in.Recorded.Progress
			c.decide(interval, 100, true)
			if p := c.in.Recorded.Progress; p.Observed != before.Observed+interval || p.Elapsed != before.Elapsed+interval || c.inStep() != requested+100 {
				t.Errorf("it does not count again: observed for %s after %s, with %d requests after %d", p.Observed, before.Observed, c.inStep(), requested)
			}
		})
	}
}

// The sample that is there when the end of an interruption is observed is about the time before.
func TestSampleFromBeforeTheShareDoesNotCount(t *testing.T) {
	for name, interrupt := range interruptions {
		t.Run(name, func(t *testing.T) {
			c := counting(t)
			shared := c.in
			interrupt(&c.in)
			c.decide(interval, 0, true)
			before, requested := c.in.Recorded.Progress, c.inStep()
			recorded, now := c.in.Recorded, c.in.Now.Add(outage)
			c.in = shared
			c.in.Recorded, c.in.Now = recorded, now
			c.decide(0, 1000, true)
			if p := c.in.Recorded.Progress; p.Observed != before.Observed || p.Elapsed != before.Elapsed || c.inStep() != requested {
				t.Errorf("observed for %s, running for %s, with %d requests; want %s, %s and %d as before",
					p.Observed, p.Elapsed, c.inStep(), before.Observed, before.Elapsed, requested)
			}
		})
	}
}

// A step begins to count when its share is observed, although it was on record long before.
func TestStepCountsFromItsShare(t *testing.T) {
	for name, spec := range map[string]func(*Input){
		"with another policy": func(*Input) {},
		"rolled back for too little evidence": func(in *Input) {
			in.Spec.OnInconclusive = RollbackInconclusive
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCanary(onlyErrors(0.99))
			spec(&c.in)
			c.in.ObservedWeight = 0
			c.decide(interval, 100, true)
			c.in.Now, c.in.ObservedWeight = c.in.Now.Add(outage), 5
			c.decide(0, 1000, true)
			if p := c.in.Recorded.Progress; p.Step != 1 || p.Observed != 0 || c.inStep() != 0 {
				t.Errorf("step %d was observed for %s with %d requests", p.Step, p.Observed, c.inStep())
			}
			c.decide(interval, 100, true)
			if p := c.in.Recorded.Progress; p.Observed != interval || c.inStep() != 100 {
				t.Errorf("it was observed for %s with %d requests, want %s with 100", p.Observed, c.inStep(), interval)
			}
		})
	}
}

// Of the time in which no decision was recorded, because the operator was down or could not write,
// two intervals count if it was short, and nothing if it was long. Requests count in any case.
func TestUnobservedTime(t *testing.T) {
	for name, test := range map[string]struct{ interval, down, counts time.Duration }{
		"for seconds":                       {interval, 25 * time.Second, 2 * interval},
		"for minutes":                       {interval, outage, 0},
		"for days, or the clock jumped":     {interval, 48 * time.Hour, 0},
		"the clock was set back":            {interval, -time.Hour, 0},
		"for less than two long intervals":  {2 * time.Minute, outage, outage},
		"for longer than two of them":       {2 * time.Minute, 5 * time.Minute, 0},
		"in which samples were rarely read": {time.Second, 10 * time.Second, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			c := counting(t)
			c.in.Spec.Interval = test.interval
			before := c.in.Recorded.Progress.Observed
			c.decide(test.down, 100, true)
			if got := c.in.Recorded.Progress.Observed - before; got != test.counts {
				t.Errorf("%s of %s count, want %s", got, test.down, test.counts)
			}
			if n := c.inStep(); test.down > 0 && n != 300 {
				t.Errorf("%d requests count for the step, want 300", n)
			}
			for range 3 {
				c.decide(test.interval, 100, true)
			}
			if got := c.in.Recorded.Progress.Observed - before; got < test.counts+2*test.interval {
				t.Errorf("%s count after three more intervals of %s", got, test.interval)
			}
		})
	}
}

// A source that lags by a minute counts for that long what happened before the share.
func TestLateEvidenceFromBeforeTheShareDoesNotCount(t *testing.T) {
	c := counting(t)
	late := func() {
		c.in.Now, c.total = c.in.Now.Add(interval), c.total+100
		c.in.Evidence = requests(c.in.Now, 0, c.total)
		c.in.Evidence.Lag = time.Minute
		c.in.Recorded = Next(c.in).State
	}
	for range 20 {
		late()
	}
	c.in.Commands.Pause = true
	late()
	late()
	before, requested := c.in.Recorded.Progress.Observed, c.inStep()
	c.in.Commands.Pause = false
	for range time.Minute / interval {
		late()
	}
	if p := c.in.Recorded.Progress; p.Observed != before || c.inStep() != requested {
		t.Errorf("%s and %d requests from before count", p.Observed-before, c.inStep()-requested)
	}
	late()
	late()
	if p := c.in.Recorded.Progress; p.Observed <= before || c.inStep() <= requested {
		t.Error("what follows does not count")
	}
}

// A block that was complete before the step had its share is none of the step's.
func TestBlocksBeforeTheShareDoNotCount(t *testing.T) {
	ledger := ledgerByMinute().beginStep()
	var at time.Time
	count := func(samples int64, sharedAt time.Time) {
		for range samples {
			at = later(at.Add(interval), noon)
			s := sampleByMinute(requests(at, 0, int64(at.Sub(noon)/time.Second)), false)
			s.SharedAt = sharedAt
			ledger, _ = ledger.Record(s)
		}
	}
	count(14, time.Time{})
	if all, inStep := ledger.Blocks.of(ErrorRate).Count, ledger.Blocks.inStep(ErrorRate); all == 0 || inStep != 0 {
		t.Errorf("%d blocks without a share, %d of them in the step", all, inStep)
	}
	count(14, at.Add(time.Second))
	if n := ledger.Blocks.inStep(ErrorRate); n == 0 {
		t.Error("no block with the share is in the step")
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// With a long interval, the time before something was observed is longer than it may last.
func TestStatesLastFromWhenTheyAreObserved(t *testing.T) {
	const long = 5 * time.Minute
	for name, test := range map[string]struct {
		happens func(*Input)
		over    func(Decision) bool
	}{
		"the candidate's pods are unavailable": {func(in *Input) { in.Pods.Available, in.Pods.Ready = 0, 0 }, func(d Decision) bool { return d.Rollback != nil }},
		"the stable revision is down":          {func(in *Input) { in.Stable.Down = true }, func(d Decision) bool { return d.Passed }},
	} {
		t.Run(name, func(t *testing.T) {
			c := counting(t)
			c.in.Spec.Interval = long
			test.happens(&c.in)
			if test.over(c.decide(2*long, 0, true)) || test.over(c.decide(time.Second, 0, true)) {
				t.Error("a moment is taken for minutes")
			}
			if !test.over(c.decide(long, 0, true)) && !test.over(c.decide(time.Second, 0, true)) {
				t.Error("minutes are not")
			}
		})
	}
	t.Run("nothing fails any more", func(t *testing.T) {
		c := counting(t)
		c.in.SharesCache, c.in.Probe.Unhealthy = true, true
		c.decide(interval, 0, true)
		c.in.Probe.Unhealthy = false
		c.decide(outage, 0, true)
		if got := c.in.Recorded.Progress.HealthyFor; got > time.Second {
			t.Errorf("it counts as healthy for %s", got)
		}
	})
}

// A record of an earlier operator does not say since when the share was there: the step goes on
// with what was counted.
func TestStepOfAnEarlierRecordContinues(t *testing.T) {
	c := counting(t)
	c.in.Recorded.Progress.SharedAt = time.Time{}
	record, err := Decode(Record{Revision: "b", Canary: &c.in.Recorded}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	c.in.Recorded = *record.Canary
	c.decide(interval, 100, true)
	c.decide(interval, 100, true)
	if p := c.in.Recorded.Progress; p.Observed != 3*interval || c.inStep() != 300 {
		t.Errorf("it was observed for %s with %d requests, want %s with 300", p.Observed, c.inStep(), 3*interval)
	}
}
