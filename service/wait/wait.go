// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wait lets background loops wait, with jitter and until a context is
// done.
package wait

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d. It returns false if ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Jitter returns a random duration between d minus and d plus the given fraction
// of d, so that instances do not act in step.
func Jitter(d time.Duration, fraction float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*fraction*float64(d))
}
