// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"fmt"
	"math"
	"testing"
)

// outside reports whether a binomial count of n trials with probability p
// deviates from its mean by more than the given number of standard deviations.
func outside(count, n int, p, deviations float64) bool {
	return math.Abs(float64(count)-float64(n)*p) > deviations*math.Sqrt(float64(n)*p*(1-p))
}

// With a fixed salt and fixed keys the count is the same in each run, so the 99
// % interval cannot fail at random.
const (
	confidence99 = 2.576
	certain      = 6
)

func TestShareIsExact(t *testing.T) {
	const keys = 100_000
	c := newSelector("shop/checkout")
	for _, percent := range []uint64{0, 1, 5, 25, 50, 75, 99, 100} {
		in := 0
		for i := range keys {
			if c.includes(fmt.Sprintf("user-%d", i), percent*parts/100) {
				in++
			}
		}
		if outside(in, keys, float64(percent)/100, confidence99) {
			t.Errorf("%d of %d keys are in %d %%", in, keys, percent)
		}
	}
}

func TestGrowingShareKeepsItsKeys(t *testing.T) {
	c := newSelector("shop/checkout")
	for i := range 10_000 {
		key, was := fmt.Sprintf("user-%d", i), false
		for share := uint64(0); share <= parts; share += parts / 20 {
			is := c.includes(key, share)
			if was && !is {
				t.Fatalf("%s leaves the share when it grows to %d", key, share)
			}
			was = is
		}
		if !was {
			t.Fatalf("%s is not in a share of 100 %%", key)
		}
	}
}

// TestSelectionIsFrozen keeps the selection stable across versions, because
// pods of two versions of the flag service must agree.
func TestSelectionIsFrozen(t *testing.T) {
	c := newSelector("shop/checkout")
	for key, part := range map[string]uint64{
		"u": 498, "user-1": 1306, "user-2": 3114, "8f2c41aa-77b0-4d3e-9d52-1c6f0e6a2f10": 2569, "Zoë": 1056,
	} {
		if c.includes(key, part) || !c.includes(key, part+1) {
			t.Errorf("%q is no longer in part %d of %d", key, part, parts)
		}
	}
}

func TestFlagCachesSelectIndependently(t *testing.T) {
	const keys = 100_000
	a, b, both := newSelector("shop/checkout"), newSelector("shop/search"), 0
	for i := range keys {
		key := fmt.Sprintf("user-%d", i)
		if a.includes(key, parts/10) && b.includes(key, parts/10) {
			both++
		}
	}
	if outside(both, keys, 0.01, confidence99) {
		t.Errorf("%d of %d keys are in 10 %% of both", both, keys)
	}
}

func TestRequestsWithoutAKeyAreSelectedAtRandom(t *testing.T) {
	const requests = 100_000
	c, in := newSelector("shop/checkout"), 0
	for range requests {
		if c.includes("", parts/20) {
			in++
		}
	}
	if outside(in, requests, 0.05, certain) {
		t.Errorf("%d of %d requests are in 5 %%", in, requests)
	}
	if c.includes("", 0) || !c.includes("", parts) {
		t.Error("shares of 0 % and 100 % are random")
	}
}

func BenchmarkSelection(b *testing.B) {
	c := newSelector("shop/checkout")
	b.ReportAllocs()
	for b.Loop() {
		c.includes("user-8f2c41aa-77", parts/20)
	}
}
