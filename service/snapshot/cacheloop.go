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

// Cache is the shared cache.
type Cache interface {
	// Run keeps the connection and calls changed when the cached document may have
	// changed, until ctx is done.
	Run(ctx context.Context, changed func())
	// Read returns the cached document, or cache.ErrMiss.
	Read(ctx context.Context) (cache.Entry, error)
	// Store writes the document and tells everyone, unless a newer one or the same
	// is there.
	Store(ctx context.Context, entry cache.Entry) error
	// Refill is Store after a miss: of all instances that notice it, one writes.
	Refill(ctx context.Context, entry cache.Entry) error
}

// offer hands the current snapshot to the cache loop to be stored; an older one
// that still waits is forgotten.
func (r *Refresher) offer() {
	select {
	case <-r.store:
	default:
	}
	r.store <- r.Current()
}

// lookSoon makes the cache loop look at Redis, or at the source if that is good.
func (r *Refresher) lookSoon() {
	select {
	case r.look <- struct{}{}:
	default:
	}
}

// keepCache is the cache loop: all that may wait for Redis happens in it.
func (r *Refresher) keepCache(ctx context.Context) {
	r.maintain(ctx)
	var unsaved *Snapshot
	timer := time.NewTimer(r.nextLook())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case unsaved = <-r.store:
		case <-r.look:
			if r.sourceGood.Load() {
				r.Source.Refresh()
			}
		case <-timer.C:
			timer.Reset(r.nextLook())
		}
		unsaved = r.keep(ctx, unsaved)
	}
}

// keep brings Redis and this instance together once: it stores what the source
// said last or, if that is done, looks at what is there. It returns what could
// not be stored.
func (r *Refresher) keep(ctx context.Context, unsaved *Snapshot) *Snapshot {
	if unsaved == nil || !r.sourceGood.Load() {
		r.maintain(ctx)
		return nil
	}
	if err := r.Cache.Store(ctx, entryOf(unsaved)); err != nil {
		return unsaved
	}
	return nil
}

// nextLook spreads the instances' looks, so that they do not come in step.
func (r *Refresher) nextLook() time.Duration {
	return r.CacheInterval*3/4 + rand.N(r.CacheInterval/2)
}

// maintain looks at Redis once. What expired is filled in again as long as the
// source stands behind it: after that it would only look fresh.
func (r *Refresher) maintain(ctx context.Context) {
	if err := r.read(ctx); !errors.Is(err, cache.ErrMiss) {
		return
	}
	if current := r.Current(); current != nil && r.sourceGood.Load() {
		// A failure is counted and logged by the cache; the next look tries again.
		_ = r.Cache.Refill(ctx, entryOf(current))
	}
}

// read passes what Redis holds to the serve loop.
func (r *Refresher) read(ctx context.Context) error {
	entry, err := r.Cache.Read(ctx)
	if err == nil {
		send(ctx, r.entries, entry)
	}
	return err
}

func entryOf(s *Snapshot) cache.Entry {
	return cache.Entry{Version: s.Version, Data: s.Data}
}
