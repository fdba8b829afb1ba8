// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// aTrialByBlocks is judged by blocks of a minute.
func aTrialByBlocks() *Trial {
	t := &Trial{}
	t.judgeBy(Policy{Alpha: 0.002, Block: time.Minute, MinimumBlocks: 5, Limits: map[canary.Check]float64{canary.ErrorRate: 0.001}})
	return t
}

// requestsOf is a sample of one candidate's pod that counted so much since it began.
func requestsOf(at time.Time, bad, total int64) canary.Evidence {
	return canary.Evidence{At: at, Streams: []canary.Stream{{ID: "b/1", Revision: "b", Counts: canary.Counters{canary.ErrorRate: {Bad: bad, Total: total}}}}}
}

// Whatever happens between samples, every event is in one block, and a block is
// complete after a minute between samples that count.
func TestEveryEventIsInOneBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trial := aTrialByBlocks()
		now := noon
		var counted, inBlocks analysis.Counts
		var expected analysis.Blocks
		var observed time.Duration
		for range rapid.IntRange(1, 80).Draw(t, "samples") {
			now = now.Add(rapid.SampledFrom([]time.Duration{
				interval, interval, interval, interval / 2, 0, 3 * interval, time.Hour, -time.Hour,
			}).Draw(t, "gap"))
			total := rapid.Int64Range(0, 100).Draw(t, "events")
			more := analysis.Counts{Bad: rapid.Int64Range(0, total).Draw(t, "bad"), Total: total}
			counted = counted.Plus(more)
			struck := rapid.IntRange(0, 9).Draw(t, "struck") == 0
			evidence := requestsOf(now, counted.Bad, counted.Total)
			before := trial.Blocks.of(canary.ErrorRate).Count
			took := trial.absorb(evidence, "b", struck, interval)
			if again := trial.absorb(evidence, "b", false, interval); again != 0 {
				t.Fatalf("a sample was observed twice")
			}
			if !struck {
				observed += took
			}
			if trial.Blocks.of(canary.ErrorRate).Count > before {
				all := trial.Candidate[canary.ErrorRate]
				expected = expected.With(canary.Since(inBlocks, all))
				inBlocks = all
			}
			if rapid.Bool().Draw(t, "restart") {
				trial = restarted(t, trial)
			}
		}
		if d := cmp.Diff(expected, trial.Blocks.of(canary.ErrorRate)); d != "" {
			t.Fatalf("the blocks differ from what was counted between their ends:\n%s", d)
		}
		if open, left := trial.Blocks.Open[canary.ErrorRate], canary.Since(inBlocks, trial.Candidate[canary.ErrorRate]); open != left {
			t.Fatalf("%v are in the block under way, want %v", open, left)
		}
		if least := time.Duration(expected.Count)*time.Minute + trial.Blocks.OpenFor; observed < least {
			t.Fatalf("%d blocks are complete after %s", expected.Count, observed)
		}
	})
}

// restarted is a trial as another operator finds it.
func restarted(t *rapid.T, trial *Trial) *Trial {
	text, err := json.Marshal(trial)
	if err != nil {
		t.Fatal(err)
	}
	stored := &Trial{}
	if err := json.Unmarshal(text, stored); err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestBlocksTakeSamplesToComplete(t *testing.T) {
	for name, c := range map[string]struct {
		samples []canary.Evidence
		struck  bool
		blocks  int64
		openFor time.Duration
	}{
		"a minute of samples is a block": {
			samples: []canary.Evidence{requestsOf(noon, 0, 10), requestsOf(noon.Add(20*time.Second), 0, 20), requestsOf(noon.Add(40*time.Second), 0, 30), requestsOf(noon.Add(time.Minute), 0, 40)},
			blocks:  1,
		},
		"an hour without one is no more than two intervals": {
			samples: []canary.Evidence{requestsOf(noon, 0, 10), requestsOf(noon.Add(time.Hour), 500, 1000)}, openFor: 2 * interval,
		},
		"neither is a clock that goes back": {
			samples: []canary.Evidence{requestsOf(noon, 0, 10), requestsOf(noon.Add(-time.Hour), 0, 20), requestsOf(noon.Add(-time.Hour+interval), 0, 30)}, openFor: interval,
		},
		"samples of shared trouble are in none": {
			samples: []canary.Evidence{requestsOf(noon, 0, 10), requestsOf(noon.Add(20*time.Second), 9, 20), requestsOf(noon.Add(40*time.Second), 9, 30), requestsOf(noon.Add(time.Minute), 9, 40)},
			struck:  true,
		},
		"without events none begins": {
			samples: []canary.Evidence{requestsOf(noon, 0, 0), requestsOf(noon.Add(20*time.Second), 0, 0), requestsOf(noon.Add(40*time.Second), 0, 0), requestsOf(noon.Add(time.Minute), 0, 0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			trial := aTrialByBlocks()
			for _, e := range c.samples {
				trial.absorb(e, "b", c.struck, interval)
			}
			if got := trial.Blocks.of(canary.ErrorRate).Count; got != c.blocks || trial.Blocks.OpenFor != c.openFor {
				t.Errorf("%d blocks, %s of the next, want %d and %s", got, trial.Blocks.OpenFor, c.blocks, c.openFor)
			}
		})
	}
}

// A check that is struck is forgotten with its blocks, and only it.
func TestStruckChecksHaveNoBlocks(t *testing.T) {
	trial := aTrialByBlocks()
	both := func(n int64) canary.Counters {
		return canary.Counters{canary.ErrorRate: {Bad: n, Total: n}, canary.LatencyP95: {Total: n}}
	}
	trial.Blocks.add(both(10), nil, time.Minute, trial.Policy)
	trial.begin(1, noon)
	trial.Blocks.add(both(10), nil, time.Minute/2, trial.Policy)
	trial.strike(canary.ErrorRate)
	trial.Blocks.add(both(10), nil, time.Minute/2, trial.Policy)
	if got := trial.Blocks.of(canary.ErrorRate); got != (analysis.Blocks{}).With(analysis.Counts{Bad: 10, Total: 10}) {
		t.Errorf("the struck check has %+v", got)
	}
	if n, inStep := trial.Blocks.of(canary.LatencyP95).Count, trial.Blocks.inStep(canary.LatencyP95); n != 2 || inStep != 1 {
		t.Errorf("the other check has %d blocks, %d of them in the step", n, inStep)
	}
}

// What happened to both revisions in a block says nothing of the candidate, and what
// happened to it alone does.
func TestABlockInWhichTheStableRevisionIsNoBetterDoesNotCount(t *testing.T) {
	for name, c := range map[string]struct {
		candidate, stable int64
		counts            bool
	}{
		"both keep the limit":                          {candidate: 0, stable: 0, counts: true},
		"the candidate alone fails":                    {candidate: 300, stable: 0, counts: true},
		"both fail alike":                              {candidate: 300, stable: 300},
		"the candidate fails somewhat more":            {candidate: 300, stable: 200},
		"the candidate fails far more":                 {candidate: 300, stable: 100, counts: true},
		"the stable one alone fails":                   {candidate: 0, stable: 300, counts: true},
		"both fail, the stable one within the limit":   {candidate: 300, stable: 1, counts: true},
		"the candidate is within the limit, as is all": {candidate: 1, stable: 1, counts: true},
	} {
		t.Run(name, func(t *testing.T) {
			trial := aTrialByBlocks()
			requests := func(bad int64) canary.Counters { return canary.Counters{canary.ErrorRate: {Bad: bad, Total: 1000}} }
			trial.Blocks.add(requests(c.candidate), requests(c.stable), time.Minute, trial.Policy)
			if got := trial.Blocks.of(canary.ErrorRate).Count == 1; got != c.counts {
				t.Errorf("it counts: %t, want %t", got, c.counts)
			}
		})
	}
}

// Events that another source knows too must not be in blocks of both.
func TestAnotherOriginBeginsBlocksAnew(t *testing.T) {
	trial := aTrialByBlocks()
	trial.follow(canary.Evidence{At: noon, Origin: "one"})
	trial.Blocks.add(canary.Counters{canary.ErrorRate: {Total: 10}}, nil, time.Minute, trial.Policy)
	trial.Blocks.add(canary.Counters{canary.ErrorRate: {Total: 10}}, nil, time.Second, trial.Policy)
	trial.follow(canary.Evidence{At: noon.Add(interval), Origin: "another"})
	if n := trial.Blocks.of(canary.ErrorRate).Count; n != 0 || trial.Blocks.underWay() {
		t.Errorf("%d blocks are left, one under way: %t", n, trial.Blocks.underWay())
	}
}

// A source that is some minutes behind counts what happened before the step.
func TestBlocksBeforeTheStepDoNotPassIt(t *testing.T) {
	trial := aTrialByBlocks()
	trial.begin(1, noon)
	for n := range int64(7) {
		e := requestsOf(noon.Add(time.Duration(n)*interval), 0, 10*n)
		e.Lag = time.Minute
		trial.absorb(e, "b", false, interval)
	}
	if all, inStep := trial.Blocks.of(canary.ErrorRate).Count, trial.Blocks.inStep(canary.ErrorRate); all != 1 || inStep != 0 {
		t.Errorf("%d blocks, %d of them in the step", all, inStep)
	}
}

// A look is decided on a copy of the record, which is repeated if it cannot be written.
func TestAClonedTrialSharesNoBlocks(t *testing.T) {
	trial := aTrialByBlocks()
	trial.Blocks.add(canary.Counters{canary.ErrorRate: {Total: 10}}, nil, time.Minute, trial.Policy)
	trial.Blocks.add(canary.Counters{canary.ErrorRate: {Total: 10}}, nil, time.Second, trial.Policy)
	before := fmt.Sprintf("%+v", *trial.Blocks)
	copied := trial.clone()
	copied.strike(canary.ErrorRate)
	copied.Blocks.add(canary.Counters{canary.ErrorRate: {Total: 10}}, nil, time.Minute, trial.Policy)
	copied.begin(2, noon)
	if after := fmt.Sprintf("%+v", *trial.Blocks); after != before {
		t.Errorf("the original changed from %s to %s", before, after)
	}
}
