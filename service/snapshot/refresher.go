// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source"
	"github.com/flagcache/flagcache/service/wait"
)

// Cache is the shared cache.
type Cache interface {
	// Run maintains the connection and calls changed when the cached document may
	// have changed, until ctx is done.
	Run(ctx context.Context, changed func())
	// Read returns the cached document, or cache.ErrMiss.
	Read(ctx context.Context) (cache.Entry, error)
	// Store writes the document and notifies all instances, unless the same or a
	// newer one is stored. It returns cache.ErrForeign if that of another store is.
	Store(ctx context.Context, entry cache.Entry) error
	// Refill stores the result of fill, unless a document that is enough is stored.
	// Only one instance at a time may refill; the others get cache.ErrBusy.
	Refill(ctx context.Context, enough func(cache.Entry) bool, fill func(context.Context) (cache.Entry, error)) error
}

// Origins of a snapshot.
const (
	OriginSource   = "source"
	OriginCache    = "redis"
	OriginLastGood = "last-good"
)

// Snapshot is a served set of flags. It is immutable.
type Snapshot struct {
	// Set holds the compiled flags, Data the document they were compiled from.
	Set  *flags.Set
	Data []byte
	// Digest identifies the document's content.
	Digest string
	// Modified is when the document was written, according to the source; until that is
	// known, when this instance read it.
	Modified time.Time
	// State identifies the document in its source.
	source.State
	// Confirmed means that the source had this document, rather than only Redis or
	// the last good file.
	Confirmed bool
	// Generation numbers the sets that this process has served, from 1.
	Generation uint64
	// Origin is where the document was read from, one of the Origin constants.
	Origin string
	// Rejected is the number of problems with single flags of the document.
	Rejected int
}

// Options configure a Refresher.
type Options struct {
	// Source is required.
	Source source.Source
	// Cache is nil without Redis.
	Cache Cache
	// Serve is called with each new set before it becomes current.
	Serve func(*flags.Set)
	// Served, unless it is nil, is called with each new current snapshot, also if it has
	// the same set as the one before. Calls are not concurrent, and must not block.
	Served func(*Snapshot)
	// Store identifies the store of a source that is not shared, such as the ConfigMap
	// of a file; empty if it is unknown.
	Store string
	// Numbered means that the source, which is not shared, has the same documents for
	// all instances, with numbers: see source.Published.
	Numbered bool
	// Authenticated means that documents in Redis are authenticated with a key. Only
	// then a numbered one may replace that of the source.
	Authenticated bool
	// Environment is the name of the flag set in the last good file.
	Environment string
	// LastGoodFile is the path of the file that keeps the last good flags for the
	// next start; empty disables it.
	LastGoodFile string
	// CacheInterval is the interval at which Redis is read without a message, 30 s
	// by default. Until Redis first replies, it is about one second at most.
	CacheInterval time.Duration
	// ShrinkDelay is the time after which a set that lost most of its flags is read
	// a second time, 1 s by default.
	ShrinkDelay time.Duration
	// Now is the clock. Only differences between its results are used, so with
	// time.Now they are monotonic.
	Now func() time.Time
	Log *slog.Logger
}

// current is the served snapshot.
type current struct {
	atomic.Pointer[Snapshot]
	// served is called with each; nil does nothing.
	served func(*Snapshot)
}

// set makes a snapshot the current one. It is not called concurrently.
func (c *current) set(next *Snapshot) {
	c.Store(next)
	if c.served != nil {
		c.served(next)
	}
}

// Refresher keeps a Snapshot fresh.
type Refresher struct {
	Options
	metrics *metrics
	current current
	// confirmed is when the served flags were last known to be fresh.
	confirmed atomic.Pointer[time.Time]

	// refused is the number of problems of a document that was not served because
	// all of its flags were rejected; 0 once another one is served.
	refused atomic.Int64

	// sourceGood means that the source's last document is served.
	sourceGood atomic.Bool
	// sourceError holds the reason if it is not.
	sourceError atomic.Pointer[string]

	// mu is held while deciding what to serve.
	mu sync.Mutex
	// arbiter knows what the source reported.
	arbiter arbiter
	// shrunk is the digest of a document that must be read a second time, first
	// read at shrunkAt.
	shrunk   string
	shrunkAt time.Time

	// expedited is when Expedite last caused a read.
	expedited atomic.Pointer[time.Time]

	// Used by the loop that loads only:
	notBefore time.Time
	missed    time.Time

	// wait is the wait of the loop for something in Redis.
	wait redisWait

	// stored is the snapshot last stored in Redis; answered means that Redis has
	// ever replied. Used by the loop that reads Redis only, like refusals.
	stored   *Snapshot
	answered bool
	refusals refusals
	// foreign means that Redis has a document that is not this store's.
	foreign atomic.Bool

	// saveFailing means that the last good file could not be written; used by its
	// loop only.
	saveFailing bool

	// These wake the loops: to read the source, to read Redis, to save the last
	// good flags.
	sourceChanged, redisChanged, served chan struct{}
	// heard is closed by the first report of the source.
	heard     chan struct{}
	hearFirst sync.Once
}

// New returns a Refresher without flags. Run fills it.
func New(options Options) *Refresher {
	if options.CacheInterval == 0 {
		options.CacheInterval = 30 * time.Second
	}
	if options.ShrinkDelay == 0 {
		options.ShrinkDelay = time.Second
	}
	return &Refresher{
		Options: options,
		metrics: newMetrics(),
		current: current{served: options.Served},
		arbiter: arbiter{
			shared: options.Source.Shared(), store: options.Store, log: options.Log,
			numbered: options.Numbered, authenticated: options.Authenticated,
		},
		sourceChanged: make(chan struct{}, 1),
		redisChanged:  make(chan struct{}, 1),
		served:        make(chan struct{}, 1),
		heard:         make(chan struct{}),
	}
}

// Current returns the served snapshot, nil before the first.
func (r *Refresher) Current() *Snapshot { return r.current.Load() }

// Age returns the time since the source or Redis last confirmed the served
// flags, or since the last good file was written; 0 before the first set.
func (r *Refresher) Age() time.Duration {
	if r.Current() == nil {
		return 0
	}
	return r.Now().Sub(*r.confirmed.Load())
}

// Foreign reports whether Redis has a document under the same environment that is not
// used because it is that of another store, or was sealed with another integrity key.
func (r *Refresher) Foreign() bool { return r.foreign.Load() }

// SourceError returns why the source's document is not served, empty if it is.
func (r *Refresher) SourceError() string {
	if reason := r.sourceError.Load(); reason != nil {
		return *reason
	}
	if r.sourceGood.Load() {
		return ""
	}
	return "the source has not been read yet"
}

// expediteInterval is the minimum time between two reads that Expedite causes: anybody
// can demand flags that do not exist.
const expediteInterval = 500 * time.Millisecond

// Expedite reads Redis and the source soon, because somebody knows of more recent flags
// than the served ones: a message may have been lost. It does not block.
func (r *Refresher) Expedite() {
	now, last := r.Now(), r.expedited.Load()
	if last != nil && now.Sub(*last) < expediteInterval || !r.expedited.CompareAndSwap(last, &now) {
		return
	}
	if watched, ok := r.Source.(source.Expediter); ok {
		watched.Expedite()
	}
	r.cacheReported()
}

// Run keeps the snapshot fresh until ctx is done. It returns when all its
// goroutines have ended.
func (r *Refresher) Run(ctx context.Context) {
	r.serveLastGood()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { r.Source.Watch(ctx, r.sourceReported) })
	if r.LastGoodFile != "" {
		running.Go(func() { loop(ctx, r.served, r.saveLastGood) })
	}
	if r.Cache != nil {
		running.Go(func() { r.Cache.Run(ctx, r.cacheReported) })
	}
	if r.Source.Shared() {
		// The source may report a version before it is known whether Redis is
		// available.
		if r.Cache != nil && (!await(ctx, r.redisChanged) || !awaitReport(ctx, r.heard)) {
			return
		}
		wake(r.sourceChanged)
		loop(ctx, r.sourceChanged, r.refreshShared)
		return
	}
	if r.Cache != nil {
		running.Go(func() { loop(ctx, r.redisChanged, r.syncCache) })
	}
	loop(ctx, r.sourceChanged, r.readOwnSource)
}

// awaitReport waits for a while for the source's first report. It returns false if
// ctx ended first.
func awaitReport(ctx context.Context, heard <-chan struct{}) bool {
	timer := time.NewTimer(firstReport)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-heard:
	case <-timer.C:
	}
	return true
}

// sourceReported handles a state reported by the source.
func (r *Refresher) sourceReported(latest source.State) {
	current := r.upToDate(latest)
	r.hearFirst.Do(func() { close(r.heard) })
	if current {
		r.sourceRecovered()
		return
	}
	wake(r.sourceChanged)
}

// upToDate records the source's latest state and reports whether its document is
// served.
func (r *Refresher) upToDate(latest source.State) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if latest.Version == (source.Version{}) {
		r.arbiter.suspect = true
		return false
	}
	r.arbiter.reported = r.arbiter.reported.record(latest, r.Now())
	current := r.Current()
	if !live(current) || !latest.Confirms(current.State) {
		return false
	}
	if !current.Confirmed {
		next := *current
		next.Confirmed = true
		r.current.set(&next)
	}
	r.confirm()
	return true
}

// live reports whether a snapshot was read by this process rather than from the
// last good file.
func live(s *Snapshot) bool { return s != nil && s.Origin != OriginLastGood }

// cacheReported handles a possible change in Redis, which the source may have
// caused.
func (r *Refresher) cacheReported() {
	wake(r.redisChanged)
	wake(r.sourceChanged)
}

// wake makes a loop run its step again.
func wake(loop chan struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

// await waits to be woken and returns false if ctx ended first.
func await(ctx context.Context, woken <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-woken:
		return true
	}
}

// minStepInterval is the minimum time between two steps of a loop, so that a
// burst of notifications is handled as one.
const minStepInterval = 20 * time.Millisecond

// loop runs a step when it is woken, and after the time returned by the last
// step unless that is 0, until ctx is done.
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
		if !wait.Sleep(ctx, minStepInterval) {
			return
		}
	}
}
