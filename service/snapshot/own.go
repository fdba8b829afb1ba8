// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/flagcache/flagcache/service/cache"
)

// With a source that is each instance's own, two loops run, so that trouble with
// Redis never delays a change in the source.

// readOwn is the step of the loop that follows such a source.
func (r *Refresher) readOwn(ctx context.Context) time.Duration {
	before := r.Current()
	err := r.load(ctx)
	if errors.Is(err, errShrunk) {
		return r.ShrinkDelay
	}
	if err != nil || r.Current() != before {
		wake(r.redisChanged)
	}
	return 0
}

// keepCache is the step of the loop in which all that may wait for Redis happens:
// it stores what the source said last, unless that is done, and looks at what is
// there. It looks also where it cannot store: look-ups are what tells operators
// whether an instance can use the cache.
func (r *Refresher) keepCache(ctx context.Context) time.Duration {
	current := r.Current()
	if current != nil && r.sourceGood.Load() && current != r.stored && r.Cache.Store(ctx, entryOf(current)) == nil {
		r.stored = current
	}
	r.maintain(ctx)
	return between(r.lookInterval())
}

// maintain looks at Redis once. What expired is filled in again as long as the
// source stands behind it: after that it would only look fresh.
func (r *Refresher) maintain(ctx context.Context) {
	entry, err := r.lookUp(ctx)
	if err == nil {
		// What cannot be used is in the log, and changes nothing.
		_ = r.considerEntry(entry)
	}
	current := r.Current()
	if !errors.Is(err, cache.ErrMiss) || current == nil || !r.sourceGood.Load() {
		return
	}
	missed := time.Now()
	// A failure is counted and logged by the cache; the next look tries again.
	err = r.Cache.Refill(ctx, current.Version, func(context.Context) (cache.Entry, error) { return entryOf(current), nil })
	if err == nil {
		r.metrics.missDuration.Observe(time.Since(missed).Seconds())
	}
}

// considerEntry considers a document from Redis. One that cannot be used changes
// nothing: the source is asked as if there were none.
func (r *Refresher) considerEntry(entry cache.Entry) error {
	err := r.consider(fromEntry(entry, OriginCache))
	if err != nil && !errors.Is(err, errOutranked) && !errors.Is(err, errShrunk) {
		r.Log.Warn("ignoring a document in Redis that cannot be used", "error", err)
	}
	return err
}

// lookUp reads what Redis holds, and notes whether Redis ever answered.
func (r *Refresher) lookUp(ctx context.Context) (cache.Entry, error) {
	entry, err := r.Cache.Read(ctx)
	r.answered = r.answered || err == nil || errors.Is(err, cache.ErrMiss)
	return entry, err
}

// unansweredInterval is how often a Redis that never answered is looked at.
const unansweredInterval = time.Second

// lookInterval is how often Redis is looked at without a message. One that never
// answered is looked at more often: it may only be late, and if it is this instance
// that cannot use it, as after a release with a wrong password, operators are to see
// it in seconds. One that answered before is not, or the look-ups that fail while it
// is away would weigh more than those that do not.
func (r *Refresher) lookInterval() time.Duration {
	if r.Cache != nil && !r.answered {
		return min(unansweredInterval, r.CacheInterval)
	}
	return r.CacheInterval
}

func entryOf(s *Snapshot) cache.Entry { return cache.Entry{Version: s.Version, Data: s.Data} }
