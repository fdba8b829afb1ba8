// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"sync/atomic"
	"time"
)

const (
	// cutOffAfter is how many failures in a row it takes. A candidate that fails
	// half of its requests gets there once in a million.
	cutOffAfter = 20
	// cutOffPause is the time between two tries while it lasts.
	cutOffPause = time.Second
)

// cutOff keeps a candidate that does nothing but fail from making its whole
// share of the clients wait. After many failures in a row it lets one request
// through each pause, until one succeeds. It is mild, so that evidence against
// the candidate goes on accumulating.
type cutOff struct {
	failures atomic.Int64
	// until is the end of the pause, on the caller's clock; 0 without one.
	until atomic.Int64
}

// admits says whether the candidate may be asked now. Whoever asks at the end
// of a pause is the one who tries and begins the next pause for the others.
func (c *cutOff) admits(now time.Duration) bool {
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
