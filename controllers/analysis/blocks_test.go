// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// minutes returns blocks of 600 events each with the given numbers of bad ones.
func minutes(bad ...int64) Blocks {
	var b Blocks
	for _, n := range bad {
		b = b.With(Counts{Bad: n, Total: 600})
	}
	return b
}

// repeated returns a value repeated times.
func repeated(value int64, times int) []int64 {
	values := make([]int64, times)
	for i := range values {
		values[i] = value
	}
	return values
}

func TestJudgeBlocks(t *testing.T) {
	t.Parallel()
	test := Test{Limit: 0.001, Alpha: 0.002}
	for name, c := range map[string]struct {
		blocks Blocks
		breach bool
	}{
		"no blocks":                             {Blocks{}, false},
		"a burst of ten seconds":                {minutes(100), false},
		"a burst of thirty seconds":             {minutes(300), false},
		"a first minute of failures only":       {minutes(600), true},
		"two consecutive bursts":                {minutes(100, 100), true},
		"a burst of ten seconds within an hour": {minutes(append(repeated(0, 59), 100)...), false},
		"one failure in every other minute":     {minutes(append(repeated(0, 30), repeated(1, 30)...)...), false},
		"six failures per minute":               {minutes(repeated(6, 5)...), true},
		"two failures per minute for an hour":   {minutes(repeated(2, 60)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.JudgeBlocks(c.blocks); got.Breach != c.breach {
				t.Errorf("%+v, want Breach %t", got, c.breach)
			}
		})
	}
}

func TestBlockWithoutEventsIsIgnored(t *testing.T) {
	t.Parallel()
	if got, want := minutes(3, 1).With(Counts{}), minutes(3, 1); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Gains are linear in the proportion, so the expected capital after another block depends
// only on its mean, whatever its distribution.
func TestCapitalOfBlocksIsASupermartingale(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := blocksOf(20).Draw(t, "before")
		low := rapid.Int64Range(0, 99).Draw(t, "low")
		high := rapid.Int64Range(low+1, 100).Draw(t, "high")
		weight := rapid.Float64Range(0.001, 0.999).Draw(t, "weight")
		test := Test{Limit: ((1-weight)*float64(low) + weight*float64(high)) / 100}
		capital := func(b Blocks) float64 { return math.Exp(test.JudgeBlocks(b).LogEvidence) }
		now := capital(before)
		mean := (1-weight)*capital(before.With(Counts{low, 100})) + weight*capital(before.With(Counts{high, 100}))
		if math.Abs(mean/now-1) > 1e-9 {
			t.Fatalf("the mean capital changes from %v to %v", now, mean)
		}
	})
}

func TestResultsOfBlocksAreValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		test := tests().Draw(t, "test")
		b := blocksOf(50).Draw(t, "blocks")
		requireValid(t, test, test.JudgeBlocks(b), b.mean())
	})
}

func TestBlocksOfOneEventAreEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b Blocks
		var c Counts
		for range rapid.IntRange(0, 50).Draw(t, "events") {
			event := Counts{Bad: rapid.Int64Range(0, 1).Draw(t, "bad"), Total: 1}
			b, c = b.With(event), c.Plus(event)
		}
		p := rapid.Float64Range(0.001, 0.999).Draw(t, "p")
		events := c.wealth(blockBets).evidence(p)
		blocks := wealth{bets: blockBets, logGains: b.Over[:], n: float64(b.Count)}.evidence(p)
		if math.Abs(events-blocks) > 1e-9 {
			t.Fatalf("as events %v, as blocks %v", events, blocks)
		}
	})
}

func TestStoredBlocksCanBeContinued(t *testing.T) {
	t.Parallel()
	stored, err := json.Marshal(minutes(1, 0, 7))
	if err != nil {
		t.Fatal(err)
	}
	var b Blocks
	if err := json.Unmarshal(stored, &b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.With(Counts{2, 600}), minutes(1, 0, 7, 2); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func blocksOf(maximum int) *rapid.Generator[Blocks] {
	return rapid.Custom(func(t *rapid.T) Blocks {
		var b Blocks
		for _, c := range rapid.SliceOfN(countsUpTo(1e9), 0, maximum).Draw(t, "blocks") {
			b = b.With(c)
		}
		return b
	})
}
