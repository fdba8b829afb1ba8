// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
)

// followed records the snapshots that an instance reports.
type followed struct {
	mu        sync.Mutex
	snapshots []snapshot.Snapshot
}

func (f *followed) options(o *snapshot.Options) {
	o.Served = func(s *snapshot.Snapshot) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.snapshots = append(f.snapshots, *s)
	}
}

func (f *followed) last() snapshot.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.snapshots) == 0 {
		return snapshot.Snapshot{}
	}
	return f.snapshots[len(f.snapshots)-1]
}

// Requests wait for a number, also if it is that of the same flags.
func TestEachPositionIsReported(t *testing.T) {
	var f followed
	p := numbered(t, 1, 1, nil, f.options)
	await := func(number int64, generation uint64) {
		t.Helper()
		redistest.Eventually(t, soon, "the position is not reported", func() bool { return f.last().Version.Number == number })
		if last := f.last(); last.Generation != generation || last.Digest != p.Current().Digest {
			t.Errorf("the snapshot is %+v", last)
		}
	}
	await(1, 1)
	p.publish(2, 2)
	await(2, 2)
	p.publish(3, 2)
	await(3, 2)
	published := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	if modified := f.last().Modified; !modified.Equal(published) {
		t.Errorf("it was published at %s, not %s", modified, published)
	}
}

// The time at which a document was written is only known from the mount.
func TestTimeOfADocumentIsThatOfItsSource(t *testing.T) {
	server := redistest.Start(t)
	first := numbered(t, 1, 1, server)
	first.awaitValue("1")
	var f followed
	second := numbered(t, 1, 1, server, f.options)
	second.awaitValue("1")
	before := time.Now()
	first.publish(2, 2)
	second.awaitValue("2")
	if modified := second.Current().Modified; modified.Before(before) {
		t.Errorf("a document from Redis was written at %s", modified)
	}
	second.publish(2, 2)
	redistest.Eventually(t, soon, "the time is not that of the mount", func() bool { return f.last().Modified.Equal(first.Current().Modified) })
}

// A message was lost, and a client knows better.
func TestExpediteCoversLostMessages(t *testing.T) {
	server := redistest.Start(t)
	var later atomic.Int64
	start := time.Now()
	p := numbered(t, 1, 1, server, func(o *snapshot.Options) {
		o.CacheInterval = time.Hour
		o.Now = func() time.Time { return start.Add(time.Duration(later.Load())) }
	})
	p.awaitValue("1")
	awaitCached(t, server, document(1))
	put := func(number int64) {
		server.Client().Set(t.Context(), documentKey, cache.Sealer{}.Seal(documentKey, cache.Entry{State: numberedState(number), Data: []byte(document(int(number)))}), time.Minute)
	}
	// All reads because of the start have ended once a message causes another one.
	const channel = "feature_flags_changed:test"
	redistest.Eventually(t, soon, "the instance did not subscribe", func() bool { return server.Client().PubSubNumSub(t.Context(), channel).Val()[channel] == 1 })
	read := p.lookups("hit")
	server.Client().Publish(t.Context(), channel, "")
	redistest.Eventually(t, soon, "the message was not received", func() bool { return p.lookups("hit") > read })
	put(2)
	p.never("2")
	p.Expedite()
	p.awaitValue("2")
	// Anybody can cause it, so it is not done all the time.
	before := p.lookups("hit")
	for range 1000 {
		p.Expedite()
	}
	put(3)
	p.never("3")
	if n := p.lookups("hit") - before; n > 0 {
		t.Errorf("it read Redis %.0f times more", n)
	}
	later.Add(int64(time.Minute))
	p.Expedite()
	p.awaitValue("3")
}

// hanging is a Redis that never replies.
type hanging struct{ snapshot.Cache }

func (hanging) Run(ctx context.Context, changed func()) { changed(); <-ctx.Done() }

func (hanging) Read(ctx context.Context) (cache.Entry, error) {
	<-ctx.Done()
	return cache.Entry{}, ctx.Err()
}

func TestStartDoesNotWaitForRedisThatHangs(t *testing.T) {
	share(t, newDatabase(document(1)), "", func(o *snapshot.Options) { o.Cache = hanging{} }).awaitValue("1")
}
