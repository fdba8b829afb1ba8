// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"log/slog"
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

// firstLookup is the time for which a new instance waits for Redis before it reads the
// source.
const firstLookup = 250 * time.Millisecond

// errStored is why an instance waits that found Redis up to date only when it
// held the lock.
var errStored = errors.New("another instance has just filled the cache")

// redisWait is how long the loop has been waiting for something in Redis. Only the
// loop uses it.
type redisWait struct {
	// since is when the wait began, zero while there is none; reason is what it is for.
	since  time.Time
	reason error
	// short: the last wait was too long, so the next ones are short.
	short bool
	// looked means that Redis was read before.
	looked bool
}

// limit limits the first read of Redis.
func (w *redisWait) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.looked {
		return ctx, func() {}
	}
	w.looked = true
	return context.WithTimeout(ctx, firstLookup)
}

// begin records that the loop waits, and returns the pause. A wait that has begun
// goes on, whatever its reason.
func (w *redisWait) begin(reason error, pause time.Duration) time.Duration {
	if w.since.IsZero() {
		w.since = time.Now()
	}
	w.reason = reason
	return pause
}

// end ends a wait: what it was for is there, or is not needed any more.
func (w *redisWait) end() { w.since = time.Time{} }

// tooLong reports whether the loop must not wait for Redis any longer.
func (w *redisWait) tooLong() bool {
	limit := maxRedisWait
	if w.short {
		limit = busyInterval
	}
	return !w.since.IsZero() && time.Since(w.since) >= limit
}

// giveUp records a wait that was too long, and logs the first one.
func (w *redisWait) giveUp(log *slog.Logger) {
	if !w.short {
		log.Warn("waited too long for Redis, continuing without it; does another program use its keys?",
			"reason", w.reason, "waited", time.Since(w.since).Round(time.Millisecond))
	}
	w.short = true
}

// trust ends a period of short waits: the lock could be acquired.
func (w *redisWait) trust(log *slog.Logger) {
	if w.short {
		log.Info("the lock in Redis can be acquired again")
	}
	w.short = false
}

// loadDespiteRedis reads the source although Redis indicates that this is
// unnecessary, and stores the document for the other instances.
func (r *Refresher) loadDespiteRedis(ctx context.Context) time.Duration {
	if delay := time.Until(r.notBefore); delay > 0 {
		return delay
	}
	r.metrics.waitTimeouts.Inc()
	r.wait.giveUp(r.Log)
	if live(r.Current()) && !wait.Sleep(ctx, rand.N(maxLoadDelay)) {
		return 0
	}
	err := r.load(ctx)
	if err == nil {
		// A failure is counted and logged by the cache.
		_ = r.store(ctx, entryOf(r.Current()))
	}
	return r.afterLoad(err)
}
