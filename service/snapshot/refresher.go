// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source"
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
	// Refill stores what fill returns, if there is nothing of the version or newer. Of
	// all instances one at a time may; the others get cache.ErrBusy.
	Refill(ctx context.Context, version source.Version, fill func(context.Context) (cache.Entry, error)) error
}

// Origins of a snapshot.
const (
	OriginSource   = "source"
	OriginCache    = "redis"
	OriginLastGood = "last-good"
)

// Snapshot is what is served. It never changes.
type Snapshot struct {
	// Set is the compiled flags, Data the document they come from.
	Set  *flags.Set
	Data []byte
	// Digest identifies the document's content.
	Digest string
	// Version orders documents: of two, the larger was written later.
	Version source.Version
	// Generation counts the sets that this process has served, from 1.
	Generation uint64
	// Origin is where the document came from: an Origin constant.
	Origin string
	// Rejected is how many problems single flags of the document have.
	Rejected int
}

// Options are what a Refresher works with.
type Options struct {
	// Source is required.
	Source source.Source
	// Cache is nil where there is no Redis.
	Cache Cache
	// Serve is called with each new set before it counts as served.
	Serve func(*flags.Set)
	// Environment names the set of flags, in the last good file.
	Environment string
	// LastGoodFile is where the last good flags are kept for the next start, empty
	// for nowhere.
	LastGoodFile string
	// CacheInterval is how often Redis is looked at without a message, 30 s by
	// default; about each second at the most until it first answers.
	CacheInterval time.Duration
	// ShrinkDelay is when a set that lost most of its flags is read a second time, 1 s
	// by default.
	ShrinkDelay time.Duration
	// Now is the clock. Only differences between its readings count, and those are by
	// the monotonic clock if it is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Refresher keeps a Snapshot fresh.
type Refresher struct {
	Options
	metrics *metrics
	current atomic.Pointer[Snapshot]
	// confirmed is when what is served was last known to be fresh.
	confirmed atomic.Pointer[time.Time]

	// sourceGood says that the source's last document is the one served.
	sourceGood atomic.Bool
	// sourceTrouble holds why it is not, as text.
	sourceTrouble atomic.Pointer[string]

	// mu is held while it is decided what to serve.
	mu sync.Mutex
	// wanted is the newest version that the source spoke of; suspect says that it spoke
	// of a change without a version.
	wanted  source.Version
	suspect bool
	// shrunk is the digest of the document that awaits its second reading, since
	// shrunkAt.
	shrunk   string
	shrunkAt time.Time

	// Of the loop that loads:
	notBefore time.Time
	missed    time.Time

	// stored is what Redis was told last; answered says that Redis ever did. Both of
	// the loop that looks at Redis.
	stored   *Snapshot
	answered bool

	// unsaved says that the last good file could not be written; of its loop.
	unsaved bool

	// Reasons to look: at the source, at Redis, at the last good file.
	sourceChanged, redisChanged, served chan struct{}
}

// New returns a Refresher that has nothing yet.
func New(options Options) *Refresher {
	if options.CacheInterval == 0 {
		options.CacheInterval = 30 * time.Second
	}
	if options.ShrinkDelay == 0 {
		options.ShrinkDelay = time.Second
	}
	return &Refresher{
		Options:       options,
		metrics:       newMetrics(),
		sourceChanged: make(chan struct{}, 1),
		redisChanged:  make(chan struct{}, 1),
		served:        make(chan struct{}, 1),
	}
}

// Current returns what is served, nil before the first set.
func (r *Refresher) Current() *Snapshot { return r.current.Load() }

// Age is the time since source or Redis last confirmed what is served, for the last
// good file since it was written; 0 before the first set.
func (r *Refresher) Age() time.Duration {
	if r.Current() == nil {
		return 0
	}
	return r.Now().Sub(*r.confirmed.Load())
}

// SourceTrouble says why the source's document is not served, empty if it is.
func (r *Refresher) SourceTrouble() string {
	if trouble := r.sourceTrouble.Load(); trouble != nil {
		return *trouble
	}
	if r.sourceGood.Load() {
		return ""
	}
	return "the source has not answered yet"
}

// Run keeps the snapshot fresh until ctx is done, and returns when everything it
// started has ended.
func (r *Refresher) Run(ctx context.Context) {
	r.serveLastGood()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { r.Source.Watch(ctx, r.heard) })
	if r.LastGoodFile != "" {
		running.Go(func() { loop(ctx, r.served, r.saveLastGood) })
	}
	if r.Cache != nil {
		running.Go(func() { r.Cache.Run(ctx, r.messaged) })
	}
	if r.Source.Shared() {
		// The source may speak up before it is known whether there is a Redis to ask.
		if r.Cache != nil && !await(ctx, r.redisChanged) {
			return
		}
		wake(r.sourceChanged)
		loop(ctx, r.sourceChanged, r.follow)
		return
	}
	if r.Cache != nil {
		running.Go(func() { loop(ctx, r.redisChanged, r.keepCache) })
	}
	loop(ctx, r.sourceChanged, r.readOwn)
}

// heard takes what the source says about itself.
func (r *Refresher) heard(latest source.Version) {
	if r.upToDate(latest) {
		r.sourceRecovered()
		return
	}
	wake(r.sourceChanged)
}

// upToDate notes the source's latest version; it is true if that is what is served.
func (r *Refresher) upToDate(latest source.Version) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if latest == (source.Version{}) {
		r.suspect = true
		return false
	}
	if latest.Compare(r.wanted) > 0 {
		r.wanted = latest
	}
	current := r.Current()
	if !r.live(current) || current.Version != latest {
		return false
	}
	r.confirm()
	return true
}

// live says that a snapshot is not only what the last process left behind.
func (r *Refresher) live(s *Snapshot) bool { return s != nil && s.Origin != OriginLastGood }

// messaged is called when Redis may have changed: the source may be why.
func (r *Refresher) messaged() {
	wake(r.redisChanged)
	wake(r.sourceChanged)
}

// wake makes a loop run its step once more.
func wake(loop chan struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

// await waits to be woken; it is false when ctx ended first.
func await(ctx context.Context, woken <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-woken:
		return true
	}
}

// rest is the least time between two steps of a loop, so that a flood of reasons is
// as good as one.
const rest = 20 * time.Millisecond

// loop runs a step when it is woken and after the time that the step returned, if
// it is not 0, until ctx is done.
func loop(ctx context.Context, woken <-chan struct{}, step func(context.Context) time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-woken:
		case <-timer.C:
		}
		again := step(ctx)
		timer.Stop()
		if again > 0 {
			timer.Reset(again)
		}
		if !sleep(ctx, rest) {
			return
		}
	}
}

// sleep waits; it is false when ctx ended first.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// between is a time between half of d more and half of it less, so that instances
// do not come in step.
func between(d time.Duration) time.Duration { return d/2 + rand.N(d) }
