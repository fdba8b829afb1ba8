// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source"
)

// Source is where the flags are kept.
type Source interface {
	// Run delivers what the source holds, at once and whenever it may have changed,
	// until ctx is done.
	Run(ctx context.Context, deliver func(source.Update))
	// Refresh asks Run to look now.
	Refresh()
}

// Origins of a snapshot.
const (
	OriginSource = "source"
	OriginCache  = "redis"
)

// Snapshot is what is served. It never changes.
type Snapshot struct {
	// Set is the compiled flags, Data the document they come from.
	Set  *flags.Set
	Data []byte
	// Digest identifies the document's content.
	Digest string
	// Version orders documents: of two, the larger was written later.
	Version int64
	// Generation counts the sets that this process has served, from 1.
	Generation uint64
	// Origin is OriginSource or OriginCache.
	Origin string
	// Rejected is how many problems single flags of the document have.
	Rejected int
}

// Options are what a Refresher works with.
type Options struct {
	// Source is required.
	Source Source
	// Cache is nil where there is no Redis.
	Cache Cache
	// Serve is called with each new set before it counts as served.
	Serve func(*flags.Set)
	// CacheInterval is how often Redis is looked at without a message, 30 s by
	// default.
	CacheInterval time.Duration
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
}

// Refresher keeps a Snapshot fresh.
type Refresher struct {
	Options
	current   atomic.Pointer[Snapshot]
	confirmed atomic.Int64 // Unix nanoseconds

	// sourceGood says that the source's last document is the one served.
	sourceGood atomic.Bool
	// sourceTrouble holds why it is not, as text.
	sourceTrouble atomic.Pointer[string]

	// Of the serve loop alone:
	sourceDigest string

	// Between the loops:
	entries chan cache.Entry
	store   chan *Snapshot
	look    chan struct{}
}

// New returns a Refresher that has nothing yet.
func New(options Options) *Refresher {
	if options.CacheInterval == 0 {
		options.CacheInterval = 30 * time.Second
	}
	return &Refresher{
		Options: options,
		entries: make(chan cache.Entry),
		store:   make(chan *Snapshot, 1),
		look:    make(chan struct{}, 1),
	}
}

// Current returns what is served, nil before the first set.
func (r *Refresher) Current() *Snapshot { return r.current.Load() }

// Age is the time since source or Redis last confirmed what is served; 0 before
// the first set.
func (r *Refresher) Age() time.Duration {
	if r.Current() == nil {
		return 0
	}
	return r.Now().Sub(time.Unix(0, r.confirmed.Load()))
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
	updates := make(chan source.Update)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		r.Source.Run(ctx, func(u source.Update) { send(ctx, updates, u) })
	})
	if r.Cache != nil {
		running.Go(func() { r.Cache.Run(ctx, r.lookSoon) })
		running.Go(func() { r.keepCache(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case update := <-updates:
			r.onUpdate(update)
		case entry := <-r.entries:
			r.onEntry(entry)
		}
	}
}

// send passes a value on unless ctx ends first.
func send[T any](ctx context.Context, to chan<- T, value T) {
	select {
	case <-ctx.Done():
	case to <- value:
	}
}

// onUpdate takes what the source says.
func (r *Refresher) onUpdate(u source.Update) {
	if u.Err != nil {
		r.sourceDigest = ""
		r.sourceFailed(u.Err)
		return
	}
	if u.Digest == r.sourceDigest {
		r.confirmIf(r.sourceGood.Load())
		return
	}
	r.sourceDigest = u.Digest
	next, problems, err := parse(u.Data)
	if err != nil {
		r.sourceFailed(err)
		return
	}
	next.Digest, next.Version, next.Origin = u.Digest, u.Modified.UnixNano(), OriginSource
	r.sourceRecovered()
	r.serve(next, problems)
	r.offer()
}

// onEntry takes a document from Redis. It is served only while the source has
// nothing to serve, and only if it is newer than what is served.
func (r *Refresher) onEntry(entry cache.Entry) {
	sum := sha256.Sum256(entry.Data)
	digest := hex.EncodeToString(sum[:])
	current := r.Current()
	switch {
	case current != nil && current.Digest == digest:
		r.confirmIf(true)
		return
	case r.sourceGood.Load(), current != nil && entry.Version <= current.Version:
		return
	}
	next, problems, err := parse(entry.Data)
	if err != nil {
		r.Log.Warn("ignoring a document in Redis that cannot be used", "error", err)
		return
	}
	next.Digest, next.Version, next.Origin = digest, entry.Version, OriginCache
	r.serve(next, problems)
}

var errNothingLeft = errors.New("none of its flags can be used")

// parse compiles a document. One whose flags were all rejected is of no use.
func parse(data []byte) (*Snapshot, []flags.Problem, error) {
	set, problems, err := flags.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("the flags document cannot be used: %w", err)
	}
	if set.Len() == 0 && len(problems) > 0 {
		return nil, nil, fmt.Errorf("the flags document cannot be used: %w; the first problem: %s", errNothingLeft, problems[0])
	}
	return &Snapshot{Set: set, Data: data, Rejected: len(problems)}, problems, nil
}

// serve makes a snapshot the current one. A document with the content of the
// current one only changes where it is from and its version.
func (r *Refresher) serve(next *Snapshot, problems []flags.Problem) {
	current := r.Current()
	next.Generation = 1
	if current != nil {
		next.Generation = current.Generation + 1
		if next.Origin == OriginSource && current.Origin == OriginSource {
			// The source changed, so this is the later document, also if it is a file
			// with an older date.
			next.Version = max(next.Version, current.Version+1)
		}
	}
	if current != nil && current.Digest == next.Digest {
		next.Generation, next.Set, next.Version = current.Generation, current.Set, current.Version
	} else {
		r.Serve(next.Set)
		r.announce(next, problems)
	}
	r.current.Store(next)
	r.confirmIf(true)
}

// mostProblems is how many problems of a document are logged.
const mostProblems = 20

func (r *Refresher) announce(s *Snapshot, problems []flags.Problem) {
	r.Log.Info("serving flags", "generation", s.Generation, "flags", s.Set.Len(), "origin", s.Origin, "digest", s.Digest[:12])
	for i, problem := range problems {
		if i == mostProblems {
			r.Log.Warn("more problems are not logged", "problems", len(problems))
			return
		}
		r.Log.Warn("found a problem in the flags", "problem", problem.String())
	}
}

func (r *Refresher) confirmIf(confirmed bool) {
	if confirmed {
		r.confirmed.Store(r.Now().UnixNano())
	}
}

// sourceFailed notes that the source has nothing to serve, logged when the
// reason changes, and turns to Redis.
func (r *Refresher) sourceFailed(err error) {
	r.sourceGood.Store(false)
	trouble := err.Error()
	previous := r.sourceTrouble.Swap(&trouble)
	r.lookSoon()
	if previous != nil && *previous == trouble {
		return
	}
	kept := "none"
	if current := r.Current(); current != nil {
		kept = fmt.Sprintf("generation %d", current.Generation)
	}
	r.Log.Error("cannot use the source, keeping the last good flags", "error", err, "kept", kept)
}

func (r *Refresher) sourceRecovered() {
	r.sourceGood.Store(true)
	if r.sourceTrouble.Swap(nil) != nil {
		r.Log.Info("the source can be used again")
	}
}
