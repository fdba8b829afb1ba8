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

// seed is the seed of all random numbers.
const seed = 20230517

// repeat simulates n releases on all processors. Each release has its own random numbers,
// derived from its index, so that the outcomes do not depend on the number of processors.
// newJudge is called once for each processor.
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

// simulate returns the outcomes of n releases in a world.
func simulate(n int, w world, alpha float64) []outcome {
	return repeat(n, func() func(*rand.Rand) outcome { return newJudge(w, alpha).release })
}

// simulateBlocks returns when n releases are rolled back by the test on blocks of so many
// events.
func simulateBlocks(n int, w world, alpha float64, length int64) []int64 {
	t := analysis.Test{Limit: w.checks[0].limit, Alpha: alpha}
	return repeat(n, func() func(*rand.Rand) int64 {
		return func(r *rand.Rand) int64 { return judgeBlocks(w, t, length, r) }
	})
}

// endsBy returns the times of rollback by one method.
func endsBy(outcomes []outcome, judge func(outcome) int64) []int64 {
	ends := make([]int64, len(outcomes))
	for i, o := range outcomes {
		ends[i] = judge(o)
	}
	return ends
}

// The methods of an outcome.
func verdict(o outcome) int64   { return o.verdict }
func once(o outcome) int64      { return o.once }
func fiveTimes(o outcome) int64 { return o.fiveTimes }

// share is the fraction of releases that are rolled back within so many events.
func share(ends []int64, within int64) float64 {
	n := 0
	for _, end := range ends {
		if end <= within {
			n++
		}
	}
	return float64(n) / float64(len(ends))
}

// median is the median number of events until rollback.
func median(ends []int64) float64 {
	sorted := slices.Sorted(slices.Values(ends))
	return float64(sorted[len(sorted)/2])
}
