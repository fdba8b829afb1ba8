// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/wait"
)

// Whoever can write to Redis can hold the lock for ever, or change the document
// all the time. So an instance waits for Redis for a limited time in all, and then
// continues without it.

// maxRedisWait is the maximum time in all that an instance waits for what Redis
// contains: the lock of a killed instance expires before.
const maxRedisWait = cache.LockTime + time.Second

// errStored is why an instance waits that found Redis up to date only when it
// held the lock.
var errStored = errors.New("another instance has just filled the cache")

// waitForRedis records that the loop waits for something in Redis, and returns
// the pause.
func (r *Refresher) waitForRedis(reason error, pause time.Duration) time.Duration {
	if r.waiting.IsZero() {
		r.waiting = time.Now()
	}
	r.waitingFor = reason
	return pause
}

// waitedTooLong reports whether the loop must not wait for Redis any longer. After
// a wait that was too long, the next ones are short.
func (r *Refresher) waitedTooLong() bool {
	limit := maxRedisWait
	if r.impatient {
		limit = busyInterval
	}
	return !r.waiting.IsZero() && time.Since(r.waiting) >= limit
}

// loadDespiteRedis reads the source although Redis indicates that this is
// unnecessary, and stores the document for the other instances.
func (r *Refresher) loadDespiteRedis(ctx context.Context) time.Duration {
	if delay := time.Until(r.notBefore); delay > 0 {
		return delay
	}
	r.stopWaiting()
	if r.live(r.Current()) && !wait.Sleep(ctx, rand.N(maxLoadDelay)) {
		return 0
	}
	err := r.load(ctx)
	if err == nil {
		// A failure is counted and logged by the cache.
		_ = r.Cache.Store(ctx, entryOf(r.Current()))
	}
	return r.afterLoad(err)
}

// stopWaiting counts a wait that was too long, and logs the first one.
func (r *Refresher) stopWaiting() {
	r.metrics.waitTimeouts.Inc()
	if !r.impatient {
		r.Log.Warn("waited too long for Redis, continuing without it; does another program use its keys?",
			"reason", r.waitingFor, "waited", time.Since(r.waiting).Round(time.Millisecond))
	}
	r.impatient = true
}

// trustRedis ends a period of short waits: the lock could be acquired.
func (r *Refresher) trustRedis() {
	if r.impatient {
		r.Log.Info("the lock in Redis can be acquired again")
	}
	r.impatient = false
}
