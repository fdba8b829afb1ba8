// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package benchmark compares functions with a baseline in benchmarks.
package benchmark

import (
	"slices"
	"testing"
	"time"
)

// Alternate measures a function and a baseline in alternating batches. It
// reports the medians of the batches, which are robust against other load on
// the machine, their ratio, and the function's allocations.
func Alternate(b *testing.B, batch int, measured, baseline func()) {
	b.Helper()
	var took, compared []time.Duration
	for b.Loop() {
		start := time.Now()
		for range batch {
			measured()
		}
		middle := time.Now()
		for range batch {
			baseline()
		}
		took, compared = append(took, middle.Sub(start)), append(compared, time.Since(middle))
	}
	slices.Sort(took)
	slices.Sort(compared)
	median := func(sorted []time.Duration) float64 {
		return float64(sorted[len(sorted)/2].Nanoseconds()) / float64(batch)
	}
	b.ReportMetric(median(took), "ns/op")
	b.ReportMetric(median(compared), "baseline-ns/op")
	b.ReportMetric(median(took)/median(compared), "ratio")
	b.ReportMetric(testing.AllocsPerRun(100, measured), "allocs/call")
}
