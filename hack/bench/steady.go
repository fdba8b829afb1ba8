// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/flagcache/flagcache/hack/bench/counter"
)

// quietPeriod is for how long nothing must have been written to be at rest.
const quietPeriod = 10 * time.Second

// readTally is how a Counter is read, here or in its pod.
type readTally func(context.Context) (counter.Tally, error)

// awaitSteady returns when the operator has written nothing for a while.
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
		return fmt.Errorf("waiting for the operator to come to rest: %w", err)
	}
	return nil
}

// isCost matches all writes that a FlagCache may cost: the lease has its price
// without any.
func isCost(w counter.Write) bool { return !counter.IsLease(w) }

// measureSteadyWrites is what was written in the window.
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

// sleep returns after d, or with an error when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
