// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// byMinute groups events into blocks of a minute.
var byMinute = Policy{Alpha: 0.002, Block: time.Minute, MinimumBlocks: 5, Limits: map[Check]float64{ErrorRate: 0.001}}

func ledgerByMinute() Ledger { return Ledger{}.groupedBy(byMinute) }

// sampleByMinute of evidence about candidate b, which has had its share for long.
func sampleByMinute(e Evidence, confounded bool) Sample {
	return Sample{
		Evidence: e, Candidate: "b", Interval: interval, Policy: byMinute, Confounded: confounded, SharedAt: noon.AddDate(-1, 0, 0), SharedFor: time.Hour,
	}
}

// Whatever happens between samples, every event is in one block, and a block is complete
// after a minute between samples that count.
func TestEveryEventIsInOneBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ledger := ledgerByMinute()
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
			confounded := rapid.IntRange(0, 9).Draw(t, "confounded") == 0
			evidence := requests(now, counted.Bad, counted.Total)
			before := ledger.Blocks.of(ErrorRate).Count
			next, took := ledger.Record(sampleByMinute(evidence, confounded))
			ledger = next
			if _, again := ledger.Record(sampleByMinute(evidence, false)); again != 0 {
				t.Fatalf("a sample was observed twice")
			}
			if !confounded {
				observed += took
			}
			if ledger.Blocks.of(ErrorRate).Count > before {
				all := ledger.Candidate[ErrorRate]
				expected = expected.With(increase(inBlocks, all))
				inBlocks = all
			}
			if rapid.Bool().Draw(t, "restart") {
				ledger = restarted(t, ledger)
			}
		}
		if d := cmp.Diff(expected, ledger.Blocks.of(ErrorRate)); d != "" {
			t.Fatalf("the blocks differ from what was counted between their ends:\n%s", d)
		}
		if open, left := ledger.Blocks.Open[ErrorRate], increase(inBlocks, ledger.Candidate[ErrorRate]); open != left {
			t.Fatalf("%v are in the open block, want %v", open, left)
		}
		if least := time.Duration(expected.Count)*time.Minute + ledger.Blocks.OpenFor; observed < least {
			t.Fatalf("%d blocks are complete after %s", expected.Count, observed)
		}
	})
}

// restarted is a ledger as another operator reads it.
func restarted(t *rapid.T, ledger Ledger) Ledger {
	stored, err := Decode(Record{Revision: "b", Canary: &State{Ledger: ledger}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return stored.Canary.Ledger
}

func TestSamplesCompleteBlocks(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	for name, c := range map[string]struct {
		samples    []Evidence
		confounded bool
		blocks     int64
		openFor    time.Duration
	}{
		"a minute of samples is a block": {
			samples: []Evidence{requests(noon, 0, 10), requests(at(20*time.Second), 0, 20), requests(at(40*time.Second), 0, 30), requests(at(time.Minute), 0, 40)},
			blocks:  1,
		},
		"an hour without one is no more than two intervals": {
			samples: []Evidence{requests(noon, 0, 10), requests(at(time.Hour), 500, 1000)}, openFor: 2 * interval,
		},
		"a clock that is set back completes none": {
			samples: []Evidence{requests(noon, 0, 10), requests(at(-time.Hour), 0, 20), requests(at(-time.Hour+interval), 0, 30)}, openFor: interval,
		},
		"confounded samples are in none": {
			samples:    []Evidence{requests(noon, 0, 10), requests(at(20*time.Second), 9, 20), requests(at(40*time.Second), 9, 30), requests(at(time.Minute), 9, 40)},
			confounded: true,
		},
		"without events none begins": {
			samples: []Evidence{requests(noon, 0, 0), requests(at(20*time.Second), 0, 0), requests(at(40*time.Second), 0, 0), requests(at(time.Minute), 0, 0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := ledgerByMinute()
			for _, e := range c.samples {
				ledger, _ = ledger.Record(sampleByMinute(e, c.confounded))
			}
			if got := ledger.Blocks.of(ErrorRate).Count; got != c.blocks || ledger.Blocks.OpenFor != c.openFor {
				t.Errorf("%d blocks, %s of the next, want %d and %s", got, ledger.Blocks.OpenFor, c.blocks, c.openFor)
			}
		})
	}
}

// A check is discarded with its blocks, and no other check with it.
func TestDiscardedChecksHaveNoBlocks(t *testing.T) {
	ledger := ledgerByMinute()
	add := func(d time.Duration) {
		ledger.Blocks = ledger.Blocks.add(Counters{ErrorRate: {Bad: 10, Total: 10}, LatencyP95: {Total: 10}}, nil, d, byMinute)
	}
	add(time.Minute)
	ledger = ledger.beginStep()
	add(time.Minute / 2)
	ledger = ledger.discard(ErrorRate)
	add(time.Minute / 2)
	if got := ledger.Blocks.of(ErrorRate); got != (analysis.Blocks{}).With(analysis.Counts{Bad: 10, Total: 10}) {
		t.Errorf("the discarded check has %+v", got)
	}
	if n, inStep := ledger.Blocks.of(LatencyP95).Count, ledger.Blocks.inStep(LatencyP95); n != 2 || inStep != 1 {
		t.Errorf("the other check has %d blocks, %d of them in the step", n, inStep)
	}
}

// What happened to both revisions in a block says nothing about the candidate, and what
// happened to it alone does.
func TestBlockInWhichStableIsNoBetterDoesNotCount(t *testing.T) {
	for name, c := range map[string]struct {
		candidate, stable int64
		counts            bool
	}{
		"both keep the limit":                              {candidate: 0, stable: 0, counts: true},
		"the candidate alone fails":                        {candidate: 300, stable: 0, counts: true},
		"both fail alike":                                  {candidate: 300, stable: 300},
		"the candidate fails somewhat more":                {candidate: 300, stable: 200},
		"the candidate fails far more":                     {candidate: 300, stable: 100, counts: true},
		"the stable one alone fails":                       {candidate: 0, stable: 300, counts: true},
		"both fail, the stable one within the limit":       {candidate: 300, stable: 1, counts: true},
		"the candidate is within the limit, as are others": {candidate: 1, stable: 1, counts: true},
	} {
		t.Run(name, func(t *testing.T) {
			failed := func(bad int64) Counters { return Counters{ErrorRate: {Bad: bad, Total: 1000}} }
			blocks := ledgerByMinute().Blocks.add(failed(c.candidate), failed(c.stable), time.Minute, byMinute)
			if got := blocks.of(ErrorRate).Count == 1; got != c.counts {
				t.Errorf("it counts: %t, want %t", got, c.counts)
			}
		})
	}
}

// Events that another source knows too must not be in blocks of both.
func TestBlocksRestartWithAnotherOrigin(t *testing.T) {
	ledger := ledgerByMinute()
	ledger, _ = ledger.Record(sampleByMinute(Evidence{At: noon, Origin: "one"}, false))
	ledger.Blocks = ledger.Blocks.add(Counters{ErrorRate: {Total: 10}}, nil, time.Minute, byMinute)
	ledger.Blocks = ledger.Blocks.add(Counters{ErrorRate: {Total: 10}}, nil, time.Second, byMinute)
	ledger, _ = ledger.Record(sampleByMinute(Evidence{At: noon.Add(interval), Origin: "another"}, false))
	if n := ledger.Blocks.of(ErrorRate).Count; n != 0 || ledger.Blocks.isOpen() {
		t.Errorf("%d blocks are left, one open: %t", n, ledger.Blocks.isOpen())
	}
}

// A source that lags by minutes counts what happened before the step.
func TestBlocksBeforeTheStepDoNotPassIt(t *testing.T) {
	ledger := ledgerByMinute().beginStep()
	for n := range int64(7) {
		e := requests(noon.Add(time.Duration(n)*interval), 0, 10*n)
		e.Lag = time.Minute
		s := sampleByMinute(e, false)
		s.SharedFor = 0
		ledger, _ = ledger.Record(s)
	}
	if all, inStep := ledger.Blocks.of(ErrorRate).Count, ledger.Blocks.inStep(ErrorRate); all != 1 || inStep != 0 {
		t.Errorf("%d blocks, %d of them in the step", all, inStep)
	}
}
