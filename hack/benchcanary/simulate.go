// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// seed of all chance: the same figures on every run.
const seed = 20230517

// repeat plays n releases on all processors. Each has chance of its own, derived from its
// number, so that the outcome does not depend on how many processors there are. judge
// is made once for each of them.
func repeat[T any](n int, newJudge func() func(*rand.Rand) T) []T {
	outcomes := make([]T, n)
	workers := runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	for first := range workers {
		all.Go(func() {
			judge := newJudge()
			var source rand.PCG
			for i := first; i < n; i += workers {
				source.Seed(seed, uint64(i))
				outcomes[i] = judge(rand.New(&source))
			}
		})
	}
	all.Wait()
	return outcomes
}

// simulate returns what the judges do with n releases in a world.
func simulate(n int, w world, alpha float64) []outcome {
	return repeat(n, func() func(*rand.Rand) outcome { return newJudge(w, alpha).release })
}

// simulateBlocks returns when n releases are rolled back that are judged by blocks of
// so many events.
func simulateBlocks(n int, w world, alpha float64, length int64) []int64 {
	t := analysis.Test{Limit: w.checks[0].limit, Alpha: alpha}
	return repeat(n, func() func(*rand.Rand) int64 {
		return func(r *rand.Rand) int64 { return judgeBlocks(w, t, length, r) }
	})
}

// endsBy returns one judge's part of the outcomes.
func endsBy(outcomes []outcome, judge func(outcome) int64) []int64 {
	ends := make([]int64, len(outcomes))
	for i, o := range outcomes {
		ends[i] = judge(o)
	}
	return ends
}

// The judges of an outcome.
func verdict(o outcome) int64   { return o.verdict }
func once(o outcome) int64      { return o.once }
func fiveTimes(o outcome) int64 { return o.fiveTimes }

// share of releases that are rolled back within so many events.
func share(ends []int64, within int64) float64 {
	n := 0
	for _, end := range ends {
		if end <= within {
			n++
		}
	}
	return float64(n) / float64(len(ends))
}

// median of the events until rollback.
func median(ends []int64) float64 {
	sorted := slices.Sorted(slices.Values(ends))
	return float64(sorted[len(sorted)/2])
}
