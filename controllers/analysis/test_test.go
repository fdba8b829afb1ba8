// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	errors := Test{Limit: 0.001, Alpha: Share(0.99, 5)}
	misses := Test{Limit: 0.2, Alpha: Share(0.99, 5)}
	for name, c := range map[string]struct {
		test   Test
		counts Counts
		breach bool
	}{
		"no events":                               {errors, Counts{0, 0}, false},
		"one failure":                             {errors, Counts{1, 1}, false},
		"two consecutive failures":                {errors, Counts{2, 2}, false},
		"three consecutive failures":              {errors, Counts{3, 3}, true},
		"five failures in the first thousand":     {errors, Counts{5, 1000}, false},
		"ten failures in the first thousand":      {errors, Counts{10, 1000}, true},
		"ten minutes at four thirds of the limit": {errors, Counts{8, 6000}, false},
		"an hour at twice the limit":              {errors, Counts{72, 36_000}, true},
		"an hour at the limit":                    {errors, Counts{36, 36_000}, false},
		"a day at the limit":                      {errors, Counts{864, 864_000}, false},
		"a few misses of a cold cache":            {misses, Counts{4, 4}, false},
		"a cache without hits":                    {misses, Counts{8, 8}, true},
		"a cache with a hit rate of one half":     {misses, Counts{40, 80}, true},
		"an alpha of zero":                        {Test{Limit: 0.001}, Counts{1000, 1000}, false},
		"two failures at a limit of zero":         {Test{Alpha: 0.002}, Counts{2, 1_000_000}, false},
		"three failures at a limit of zero":       {Test{Alpha: 0.002}, Counts{3, 1_000_000}, true},
		"all failed at a limit of one":            {Test{Limit: 1, Alpha: 0.01}, Counts{1_000_000, 1_000_000}, false},
		"more bad events than events":             {errors, Counts{3, 2}, false},
		"negative counts":                         {errors, Counts{-3, -2}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.test.Judge(c.counts)
			if got.Breach != c.breach {
				t.Errorf("%+v of %+v is %+v, want Breach %t", c.test, c.counts, got, c.breach)
			}
		})
	}
}

func TestJudgeOfNoEvents(t *testing.T) {
	t.Parallel()
	want := Result{Upper: 1}
	if got := (Test{Limit: 0.1, Alpha: 0.01}).Judge(Counts{}); got != want {
		t.Errorf("Judge of no events is %+v, want %+v", got, want)
	}
}

// The expected capital is computed directly as the mean of sixteen products.
func TestCapitalIsTheMeanOfLikelihoodRatios(t *testing.T) {
	t.Parallel()
	const limit = 0.3
	var capital float64
	for i := range 16 {
		odds := 1.05 * math.Pow(30/1.05, float64(i)/15) * limit / (1 - limit)
		rate := odds / (1 + odds)
		bad, good := rate/limit, (1-rate)/(1-limit)
		capital += bad * good * good * bad * good / 16
	}
	got := Test{Limit: limit, Alpha: 0.01}.Judge(Counts{Bad: 2, Total: 5}).LogEvidence
	if math.Abs(got-math.Log(capital)) > 1e-12 {
		t.Errorf("the evidence is %v, want %v", got, math.Log(capital))
	}
}

// The expected capital after another event equals the current one at the limit, and is
// less below it, which is the condition of Ville's inequality.
func TestCapitalIsASupermartingale(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := limits().Draw(t, "limit")
		rate := limit * rapid.Float64Range(0, 1).Draw(t, "rate")
		c := countsUpTo(1000).Draw(t, "counts")
		test := Test{Limit: limit}
		// Relative to the current capital, which may overflow.
		capital := func(after Counts) float64 { return math.Exp(test.LogEvidence(after) - test.LogEvidence(c)) }
		mean := func(rate float64) float64 {
			return rate*capital(c.Plus(Counts{1, 1})) + (1-rate)*capital(c.Plus(Counts{0, 1}))
		}
		if got := mean(limit); math.Abs(got-1) > 1e-9 {
			t.Fatalf("at the limit the mean capital changes from 1 to %v", got)
		}
		if got := mean(rate); got > 1+1e-9 {
			t.Fatalf("below the limit the mean capital increases from 1 to %v", got)
		}
	})
}

func TestResultsAreValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		test := tests().Draw(t, "test")
		c := countsUpTo(1e12).Draw(t, "counts")
		requireValid(t, test, test.Judge(c), c.proportion())
	})
}

// Invalid input yields a valid result as well.
func FuzzJudgeNeverFails(f *testing.F) {
	f.Add(0.001, 0.002, int64(3), int64(1000))
	f.Add(math.NaN(), math.Inf(-1), int64(-1), int64(math.MinInt64))
	f.Add(math.Inf(1), math.NaN(), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Add(5e-324, 5e-324, int64(1), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, limit, alpha float64, bad, total int64) {
		test, c := Test{Limit: limit, Alpha: alpha}, Counts{Bad: bad, Total: total}
		requireValid(t, test, test.Judge(c), c.clamped().proportion())
		requireValid(t, test, test.JudgeBlocks(Blocks{}.With(c)), c.clamped().proportion())
	})
}

// fataler is a testing.T or a rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// requireValid fails unless r is a valid result: finite, ordered and consistent.
func requireValid(t fataler, test Test, r Result, observed float64) {
	t.Helper()
	for _, v := range []float64{r.LogEvidence, r.Observed, r.Lower, r.Upper} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Fatalf("not a number in %+v", r)
		}
	}
	if !(0 <= r.Lower && r.Lower <= r.Observed && r.Observed <= r.Upper && r.Upper <= 1) {
		t.Fatalf("out of order: %+v", r)
	}
	if math.Abs(r.Observed-observed) > 1e-12 {
		t.Fatalf("observed %v, want %v", r.Observed, observed)
	}
	slack := 1e-9 * max(r.Observed, test.limit())
	if r.Breach && r.Lower < test.limit()-slack || !r.Breach && r.Lower > test.limit()+slack {
		t.Fatalf("Breach and the interval are inconsistent for the limit %v: %+v", test.limit(), r)
	}
}

func TestEvidenceIncreasesWithBadEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		test := tests().Draw(t, "test")
		c := countsUpTo(1e12).Draw(t, "counts")
		more := c
		more.Bad = rapid.Int64Range(c.Bad, c.Total).Draw(t, "more")
		less, greater := test.Judge(c), test.Judge(more)
		if greater.LogEvidence < less.LogEvidence-rounding(c) {
			t.Fatalf("more bad events, less evidence: %+v, then %+v", less, greater)
		}
		slack := 1e-9 * max(less.Upper, greater.Upper)
		if greater.Lower < less.Lower-slack || greater.Upper < less.Upper-slack {
			t.Fatalf("more bad events, a lower interval: %+v, then %+v", less, greater)
		}
	})
}

// rounding bounds the rounding error of a sum of logarithms.
func rounding(c Counts) float64 { return 1e-14 * float64(c.Total+1000) }

func TestSmallerAlphaBreachesLess(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		strict := tests().Draw(t, "test")
		loose := strict
		loose.Alpha = rapid.Float64Range(strict.Alpha, 0.5).Draw(t, "looser")
		c := countsUpTo(1e9).Draw(t, "counts")
		a, b := strict.Judge(c), loose.Judge(c)
		if a.Breach && !b.Breach {
			t.Fatalf("a breach at %v and none at %v", strict.Alpha, loose.Alpha)
		}
		if a.LogEvidence != b.LogEvidence || a.Lower > b.Lower || a.Upper < b.Upper {
			t.Fatalf("the interval at %v is %+v, at %v %+v", strict.Alpha, a, loose.Alpha, b)
		}
	})
}

func TestResultDependsOnTheSumOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		test := tests().Draw(t, "test")
		parts := rapid.SliceOfN(countsUpTo(1e6), 1, 20).Draw(t, "parts")
		var forwards, backwards Counts
		for i := range parts {
			forwards = forwards.Plus(parts[i])
			backwards = backwards.Plus(parts[len(parts)-1-i])
		}
		first := test.Judge(forwards)
		if again := test.Judge(forwards); again != first {
			t.Fatalf("the same counts gave %+v, then %+v", first, again)
		}
		if other := test.Judge(backwards); other != first {
			t.Fatalf("in reverse order %+v is %+v", first, other)
		}
	})
}

func TestShare(t *testing.T) {
	t.Parallel()
	for checks, want := range map[int]float64{-1: 0.01, 0: 0.01, 1: 0.01, 5: 0.002} {
		if got := Share(0.99, checks); math.Abs(got-want) > 1e-15 {
			t.Errorf("the share of each of %d checks is %v, want %v", checks, got, want)
		}
	}
}

// BenchmarkJudge measures one look at one check, including the interval.
func BenchmarkJudge(b *testing.B) {
	test := Test{Limit: 0.001, Alpha: 0.002}
	for b.Loop() {
		test.Judge(Counts{Bad: 40, Total: 36_000})
	}
}

// limits generates limits in the range that users set, evenly in the logarithm.
func limits() *rapid.Generator[float64] {
	return rapid.Map(rapid.Float64Range(math.Log(1e-6), math.Log(0.5)), math.Exp)
}

func tests() *rapid.Generator[Test] {
	return rapid.Custom(func(t *rapid.T) Test {
		return Test{
			Limit: limits().Draw(t, "limit"),
			Alpha: math.Exp(rapid.Float64Range(math.Log(1e-6), math.Log(0.5)).Draw(t, "alpha")),
		}
	})
}

func countsUpTo(maximum int64) *rapid.Generator[Counts] {
	return rapid.Custom(func(t *rapid.T) Counts {
		total := rapid.Int64Range(0, maximum).Draw(t, "total")
		return Counts{Bad: rapid.Int64Range(0, total).Draw(t, "bad"), Total: total}
	})
}
