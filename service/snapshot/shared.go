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

const (
	// loadTimeout limits one read of the source. It is shorter than the lifetime of
	// the lock that a read may hold.
	loadTimeout = cache.LockTime - time.Second
	// minFailedInterval is the minimum time between a failed read of the source and
	// the next, minLoadInterval the one after a successful read.
	minFailedInterval = time.Second
	minLoadInterval   = 100 * time.Millisecond
	// busyInterval is about the time after which an instance that waits for another
	// reads Redis again without a message.
	busyInterval = 250 * time.Millisecond
	// maxLoadDelay is the maximum delay by which instances that all have to read
	// the source spread their reads.
	maxLoadDelay = 250 * time.Millisecond
)

var errNoRedis = errors.New("no Redis is configured")

// refreshShared is the step of the loop for a shared source: Redis is read first,
// and of the instances that find no document there, or an older one than the
// source reported, one reads the source for all.
func (r *Refresher) refreshShared(ctx context.Context) time.Duration {
	if r.wait.tooLong() {
		return r.loadDespiteRedis(ctx)
	}
	lookup, cancel := r.wait.limit(ctx)
	behind, err := r.readCache(lookup)
	cancel()
	switch {
	case ctx.Err() != nil:
		return 0
	case errors.Is(err, cache.ErrForeign):
		return r.loadAlone(ctx)
	case refusalOf(err) != "" && r.servesReported():
		return r.replaceUnconfirmed(ctx)
	case refusalOf(err) != "":
		return r.fill(ctx)
	case errors.Is(err, errShrunk):
		return r.wait.begin(err, r.ShrinkDelay)
	case err == nil && r.servesReported():
		r.wait.end()
		r.observeMiss()
		if behind {
			// Redis lost the stored document. A failure is counted and logged by the cache.
			_ = r.store(ctx, entryOf(r.Current()))
		}
		return wait.Jitter(r.readInterval(), 0.5)
	case err == nil:
		return r.fill(ctx)
	case errors.Is(err, cache.ErrMiss):
		if r.missed.IsZero() {
			r.missed = time.Now()
		}
		return r.fill(ctx)
	}
	return r.loadAlone(ctx)
}

// readCache considers the document in Redis. behind means that it is older than
// the served one, which is not an error.
func (r *Refresher) readCache(ctx context.Context) (behind bool, err error) {
	if r.Cache == nil {
		return false, errNoRedis
	}
	entry, err := r.lookup(ctx)
	if err != nil && !errors.Is(err, cache.ErrUnverified) {
		return false, err
	}
	if err := r.considerEntry(entry, err); !errors.Is(err, errNotNewer) {
		return false, err
	}
	current := r.Current()
	if current == nil {
		return false, cache.ErrMiss
	}
	return entry.Version.Compare(current.Version) < 0, nil
}

// replaceUnconfirmed is the step while the served document is the source's, and
// Redis has one that the source does not confirm: it is replaced after a while.
func (r *Refresher) replaceUnconfirmed(ctx context.Context) time.Duration {
	r.wait.end()
	r.observeMiss()
	if r.refusals.replace(r.Current().Version, r.Now(), r.CacheInterval) {
		r.Log.Warn("replacing the document in Redis, which the source does not have")
		_ = r.store(ctx, superseding(r.Current()))
	}
	return wait.Jitter(min(r.readInterval(), unconfirmedFor), 0.5)
}

// servesReported reports whether the served document is the one that the source
// reported. A newer one counts, too, while the source is silent or a replica that
// may be behind.
func (r *Refresher) servesReported() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	current, reported := r.Current(), r.arbiter.reported
	switch {
	case !live(current):
		return false
	case reported.state.Confirms(current.State):
		return true
	case !current.SameStore(reported.state):
		return false
	case reported.silent(r.Now()), reported.state.Lagging && current.Confirmed:
		return current.Version.Compare(reported.state.Version) >= 0
	default:
		return false
	}
}

// observeMiss records the duration of a miss that has ended.
func (r *Refresher) observeMiss() {
	if !r.missed.IsZero() {
		r.metrics.missDuration.Observe(time.Since(r.missed).Seconds())
		r.missed = time.Time{}
	}
}

// fill reads the source for all instances, unless another one is doing so.
func (r *Refresher) fill(ctx context.Context) time.Duration {
	if delay := time.Until(r.notBefore); delay > 0 {
		return delay
	}
	r.mu.Lock()
	reported := r.arbiter.reported
	r.mu.Unlock()
	loaded := false
	var loadErr error
	enough := func(stored cache.Entry) bool {
		return reported.judge(stored.State, r.Now()) == nil && stored.Version.Compare(reported.state.Version) >= 0
	}
	err := r.Cache.Refill(ctx, enough, func(ctx context.Context) (cache.Entry, error) {
		loaded = true
		if loadErr = r.load(ctx); loadErr != nil {
			return cache.Entry{}, loadErr
		}
		return entryOf(r.Current()), nil
	})
	if err == nil || loaded {
		r.wait.trust(r.Log)
	}
	switch {
	case loaded:
		return r.afterLoad(loadErr)
	case err == nil:
		// Another instance was faster: read what it stored.
		return r.wait.begin(errStored, minStepInterval)
	case errors.Is(err, cache.ErrBusy):
		return r.wait.begin(err, wait.Jitter(busyInterval, 0.5))
	}
	return r.loadAlone(ctx)
}

// loadAlone reads the source if necessary while Redis is unavailable.
func (r *Refresher) loadAlone(ctx context.Context) time.Duration {
	r.mu.Lock()
	suspect := r.arbiter.suspect
	r.mu.Unlock()
	if r.servesReported() && !suspect && r.Age() < r.CacheInterval {
		return wait.Jitter(r.readInterval(), 0.5)
	}
	if delay := time.Until(r.notBefore); delay > 0 {
		return delay
	}
	if live(r.Current()) && !wait.Sleep(ctx, rand.N(maxLoadDelay)) {
		return 0
	}
	return r.afterLoad(r.load(ctx))
}

// afterLoad returns the time until the next step after the source was read.
func (r *Refresher) afterLoad(err error) time.Duration {
	r.notBefore = time.Now().Add(minLoadInterval)
	if errors.Is(err, errShrunk) {
		return r.ShrinkDelay
	}
	r.wait.end()
	if err != nil {
		pause := minFailedInterval + rand.N(minFailedInterval)
		r.notBefore = time.Now().Add(pause)
		return pause
	}
	r.observeMiss()
	return wait.Jitter(r.readInterval(), 0.5)
}

// load reads the source once and serves its document. It records success or
// failure, unless the document must be read a second time.
func (r *Refresher) load(ctx context.Context) error {
	r.mu.Lock()
	r.arbiter.suspect = false
	r.mu.Unlock()
	document, err := r.read(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case r.Numbered:
		document.Version = numberOf(document.Version, r.Now())
	case !r.Source.Shared():
		document.Store = r.Store
	}
	if err == nil {
		err = r.consider(fromSource(document))
	}
	if errors.Is(err, errBehind) {
		err = nil // the mount of another instance was updated before this one
	}
	switch {
	case err == nil:
		r.sourceRecovered()
	case !errors.Is(err, errShrunk):
		r.sourceFailed(err)
	}
	return err
}
