// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/wait"
)

// With a source that is not shared, two loops run, so that a failing Redis
// never delays a change of the source.

// readOwnSource is the step of the loop that reads such a source.
func (r *Refresher) readOwnSource(ctx context.Context) time.Duration {
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

// syncCache is the step of the loop that does everything that may wait for
// Redis: it stores the source's last document, unless it is stored already, and
// reads the cached one. It also reads if it could not store: lookups show
// operators whether an instance can use the cache.
func (r *Refresher) syncCache(ctx context.Context) time.Duration {
	current := r.Current()
	if current != nil && r.sourceGood.Load() && current != r.stored && r.store(ctx, entryOf(current)) == nil {
		r.stored = current
	}
	r.readOrRefill(ctx)
	return wait.Jitter(r.readInterval(), 0.5)
}

// readOrRefill reads Redis once. An expired document is stored again only while
// the source still confirms it; otherwise it would only appear fresh.
func (r *Refresher) readOrRefill(ctx context.Context) {
	entry, err := r.lookup(ctx)
	var refusal error
	if err == nil || errors.Is(err, cache.ErrUnverified) {
		refusal = r.considerEntry(entry, err)
	}
	implausible := errors.Is(refusal, errImplausible) && (!r.Numbered || !clockIsBehind(r.Current()))
	if current := r.Current(); current != nil && r.sourceGood.Load() && (implausible ||
		errors.Is(refusal, errUnverified) && r.refusals.replace(current.Version, r.Now(), r.CacheInterval)) {
		_ = r.store(ctx, superseding(current))
	}
	// Any other unusable document is logged and changes nothing.
	current := r.Current()
	if !errors.Is(err, cache.ErrMiss) || current == nil || !r.sourceGood.Load() {
		r.wait.end()
		return
	}
	missed := time.Now()
	// A failure is counted and logged by the cache; the next read retries.
	err = r.refill(ctx, current)
	if err == nil {
		r.metrics.missDuration.Observe(time.Since(missed).Seconds())
	}
}

// clockIsBehind reports whether the number of the published document was not plausible, either:
// then the clock of this instance is likely to be wrong.
func clockIsBehind(s *Snapshot) bool { return s != nil && s.Version.Number == 0 }

// refill stores the snapshot if no other instance is doing so. After maxRedisWait
// it no longer depends on the lock.
func (r *Refresher) refill(ctx context.Context, current *Snapshot) error {
	if r.wait.tooLong() {
		r.metrics.waitTimeouts.Inc()
		r.wait.giveUp(r.Log)
		r.wait.end()
		return r.store(ctx, entryOf(current))
	}
	enough := func(stored cache.Entry) bool {
		return stored.SameStore(current.State) && stored.Version.Compare(current.Version) >= 0
	}
	err := r.Cache.Refill(ctx, enough, func(context.Context) (cache.Entry, error) { return entryOf(current), nil })
	switch {
	case err == nil:
		r.wait.end()
		r.wait.trust(r.Log)
	case errors.Is(err, cache.ErrBusy):
		r.wait.begin(err, 0)
	}
	return err
}

// considerEntry considers a document from Redis, which was read with an error if it
// could not be verified. An unusable one changes nothing: the source is read as after a
// miss.
func (r *Refresher) considerEntry(entry cache.Entry, readErr error) error {
	c := fromEntry(entry, OriginCache)
	c.unverified = errors.Is(readErr, cache.ErrUnverified)
	err := r.consider(c)
	refused := refusalOf(err)
	r.refusals.note(err, entry.State, r.Now(), r.Log)
	r.foreign.Store(refused == refusedForeign || refused == refusedUnverified)
	switch {
	case refused != "":
		r.metrics.refused.WithLabelValues(refused).Inc()
	case err != nil && !errors.Is(err, errNotNewer) && !errors.Is(err, errShrunk):
		r.Log.Warn("ignoring an unusable document in Redis", "error", err)
	}
	return err
}

// store stores a document, and records whether that of another store is there.
func (r *Refresher) store(ctx context.Context, entry cache.Entry) error {
	err := r.Cache.Store(ctx, entry)
	if errors.Is(err, cache.ErrForeign) {
		r.foreign.Store(true)
	}
	return err
}

// lookup reads the document in Redis and records whether Redis has ever
// replied.
func (r *Refresher) lookup(ctx context.Context) (cache.Entry, error) {
	entry, err := r.Cache.Read(ctx)
	r.answered = r.answered || err == nil || errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnverified)
	return entry, err
}

// unansweredInterval is how often a Redis that has never replied is read.
const unansweredInterval = time.Second

// readInterval returns the interval at which Redis is read without a message. A
// Redis that has never replied is read more often: it may just be starting, and
// if only this instance cannot use it, as after a release with a wrong password,
// operators should see it within seconds. A Redis that has replied before is not,
// or failed lookups during an outage would outweigh the successful ones.
func (r *Refresher) readInterval() time.Duration {
	if r.Cache != nil && !r.answered {
		return min(unansweredInterval, r.CacheInterval)
	}
	return r.CacheInterval
}

func entryOf(s *Snapshot) cache.Entry { return cache.Entry{State: s.State, Data: s.Data} }

// superseding returns the entry of a document that replaces any other of its
// store.
func superseding(s *Snapshot) cache.Entry {
	return cache.Entry{State: s.State, Data: s.Data, Supersedes: true}
}
