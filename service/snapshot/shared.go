// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/flagcache/flagcache/service/cache"
)

const (
	// loadTimeout bounds one reading of the source. It is less than the life of the
	// lock that a reading may hold.
	loadTimeout = cache.LockTime - time.Second
	// failedPause is the least time after a reading that failed, okPause the one after
	// a good one, until the source is read again.
	failedPause = time.Second
	okPause     = 100 * time.Millisecond
	// busyPause is about when one that waits for another instance looks again, if no
	// message comes.
	busyPause = 250 * time.Millisecond
	// spread is the most that instances which all have to read the source put off, so
	// that they do not do it at once.
	spread = 250 * time.Millisecond
)

var errNoRedis = errors.New("there is no Redis")

// follow is the step of the loop that follows a source which is the same for all
// instances: Redis is asked first, and of those who find nothing there, or something
// older than the source spoke of, one reads the source for all.
func (r *Refresher) follow(ctx context.Context) time.Duration {
	behind, err := r.look(ctx)
	switch {
	case ctx.Err() != nil:
		return 0
	case errors.Is(err, errShrunk):
		return r.ShrinkDelay
	case err == nil && r.satisfied():
		r.found()
		if behind {
			// Redis lost what it was told. A failure is counted and logged by the cache.
			_ = r.Cache.Store(ctx, entryOf(r.Current()))
		}
		return between(r.lookInterval())
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

// look considers what Redis holds. Behind says that this is older than what is
// served, which is no error.
func (r *Refresher) look(ctx context.Context) (behind bool, err error) {
	if r.Cache == nil {
		return false, errNoRedis
	}
	entry, err := r.lookUp(ctx)
	if err != nil {
		return false, err
	}
	if err := r.considerEntry(entry); !errors.Is(err, errOutranked) {
		return false, err
	}
	return entry.Version.Compare(r.Current().Version) < 0, nil
}

// satisfied says that what is served is as new as all that the source spoke of.
func (r *Refresher) satisfied() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.Current()
	return r.live(current) && current.Version.Compare(r.wanted) >= 0
}

// found ends the time of a miss.
func (r *Refresher) found() {
	if !r.missed.IsZero() {
		r.metrics.missDuration.Observe(time.Since(r.missed).Seconds())
		r.missed = time.Time{}
	}
}

// fill reads the source for all, unless another instance is at it.
func (r *Refresher) fill(ctx context.Context) time.Duration {
	if wait := time.Until(r.notBefore); wait > 0 {
		return wait
	}
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	loaded := false
	var loadErr error
	err := r.Cache.Refill(ctx, wanted, func(ctx context.Context) (cache.Entry, error) {
		loaded = true
		if loadErr = r.load(ctx); loadErr != nil {
			return cache.Entry{}, loadErr
		}
		return entryOf(r.Current()), nil
	})
	switch {
	case loaded:
		return r.afterLoad(loadErr)
	case err == nil:
		// Another instance was faster: look at what it stored.
		return rest
	case errors.Is(err, cache.ErrBusy):
		return between(busyPause)
	}
	return r.loadAlone(ctx)
}

// loadAlone reads the source while Redis cannot be asked, if there is a reason to.
func (r *Refresher) loadAlone(ctx context.Context) time.Duration {
	r.mu.Lock()
	suspect := r.suspect
	r.mu.Unlock()
	if r.satisfied() && !suspect && r.Age() < r.CacheInterval {
		return between(r.lookInterval())
	}
	if wait := time.Until(r.notBefore); wait > 0 {
		return wait
	}
	if r.live(r.Current()) && !sleep(ctx, rand.N(spread)) {
		return 0
	}
	return r.afterLoad(r.load(ctx))
}

// afterLoad says when to look again after the source was read.
func (r *Refresher) afterLoad(err error) time.Duration {
	r.notBefore = time.Now().Add(okPause)
	switch {
	case errors.Is(err, errShrunk):
		return r.ShrinkDelay
	case err != nil:
		pause := failedPause + rand.N(failedPause)
		r.notBefore = time.Now().Add(pause)
		return pause
	}
	r.found()
	return between(r.lookInterval())
}

// load reads the source once and serves what it has. It notes how that went, but for
// a document that must be read a second time.
func (r *Refresher) load(ctx context.Context) error {
	r.mu.Lock()
	r.suspect = false
	r.mu.Unlock()
	document, err := r.read(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = r.consider(fromSource(document))
	}
	switch {
	case err == nil:
		r.sourceRecovered()
	case !errors.Is(err, errShrunk):
		r.sourceFailed(err)
	}
	return err
}
