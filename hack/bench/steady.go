// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/flagcache/flagcache/hack/bench/counter"
)

// quietPeriod is the time without writes that defines the steady state.
const quietPeriod = 10 * time.Second

// readTally reads a Counter, which runs in this process or in a pod.
type readTally func(context.Context) (counter.Tally, error)

// awaitSteady waits until the operator has written nothing for quietPeriod.
func awaitSteady(ctx context.Context, tally readTally) error {
	var last int
	since := time.Now()
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		now, err := tally(ctx)
		if err != nil {
			return false, err
		}
		if n := now.Of(isCost); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) >= quietPeriod, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the steady state: %w", err)
	}
	return nil
}

// isCost matches all writes that FlagCaches cause, that is all but lease renewals.
func isCost(w counter.Write) bool { return !counter.IsLease(w) }

// measureSteadyWrites counts the writes during a window.
func measureSteadyWrites(ctx context.Context, tally readTally, window time.Duration) (counter.Tally, error) {
	before, err := tally(ctx)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, window); err != nil {
		return nil, err
	}
	after, err := tally(ctx)
	return after.Since(before), err
}

// sleep waits for d, or returns an error when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
