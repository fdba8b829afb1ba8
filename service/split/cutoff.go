// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"sync/atomic"
	"time"
)

const (
	// cutOffAfter is the number of consecutive failures after which a candidate is
	// cut off. One that fails half of its requests reaches it with a probability of
	// one in a million.
	cutOffAfter = 20
	// cutOffPause is the time between two attempts while a candidate is cut off.
	cutOffPause = time.Second
)

// cutOff is a circuit breaker that prevents a candidate that always fails from
// delaying its whole share of requests. After many consecutive failures it
// allows one request per pause, until one succeeds. It is lenient, so that
// evidence against the candidate keeps accumulating.
type cutOff struct {
	failures atomic.Int64
	// until is the end of the pause on the caller's clock; 0 if the candidate is
	// not cut off.
	until atomic.Int64
}

// allows reports whether a request may be sent to the candidate. The first
// caller after a pause is allowed, and starts the next pause for the others.
func (c *cutOff) allows(now time.Duration) bool {
	until := c.until.Load()
	return until == 0 || int64(now) >= until && c.until.CompareAndSwap(until, int64(now+cutOffPause))
}

func (c *cutOff) succeeded() (ended bool) {
	c.failures.Store(0)
	return c.until.Swap(0) != 0
}

func (c *cutOff) failed(now time.Duration) (begun bool) {
	if c.failures.Add(1) < cutOffAfter {
		return false
	}
	return c.until.Swap(int64(now+cutOffPause)) == 0
}
