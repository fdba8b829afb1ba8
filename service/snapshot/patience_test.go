// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
)

const (
	lockKey      = "feature_flags_lock:test"
	waitTimeouts = "flag_cache_wait_timeouts_total"
)

// TestForeignLockOnlyDelaysChanges is C39: another program holds the lock, with
// every kind of value.
func TestForeignLockOnlyDelaysChanges(t *testing.T) {
	locks := map[string]func(t *testing.T, server *redistest.Server){
		"without a TTL": func(t *testing.T, server *redistest.Server) {
			server.Client().Set(t.Context(), lockKey, "x", 0)
		},
		"a hash": func(t *testing.T, server *redistest.Server) {
			server.Client().HSet(t.Context(), lockKey, "a", "b")
		},
		"renewed for ever": func(t *testing.T, server *redistest.Server) {
			client := server.Client()
			repeat(t, func(ctx context.Context) { client.Set(ctx, lockKey, "x", cache.LockTime) })
		},
	}
	for name, lock := range locks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			d := newDatabase(document(1))
			i := share(t, d, server.URL())
			i.awaitValue("1")
			client := server.Client()
			redistest.Eventually(t, soon, "the instance did not release its lock", func() bool {
				return client.Exists(t.Context(), "feature_flags:test", lockKey).Val() == 1
			})
			lock(t, server)
			d.change(document(2), version(2))
			i.awaitValue("2")
			awaitCached(t, server, document(2))

			before := time.Now()
			d.change(document(3), version(3))
			i.awaitValue("3")
			if took := time.Since(before); took > 4*time.Second {
				t.Errorf("the next change was delayed by %s, although the lock is known to be foreign", took)
			}
			if i.counter(waitTimeouts) < 1 {
				t.Error("no wait was counted as too long")
			}
			if lines := strings.Count(i.logs.String(), "waited too long for Redis"); lines != 1 {
				t.Errorf("%d log lines report the wait", lines)
			}
		})
	}
}

// TestColdStartWithAForeignLock is C39 for instances without flags.
func TestColdStartWithAForeignLock(t *testing.T) {
	server := redistest.Start(t)
	server.Client().Set(t.Context(), lockKey, "x", 0)
	d := newDatabase(document(1))
	awaitAll(shareAll(t, d, server.URL()), "1")

	i := share(t, d, server.URL())
	i.awaitValue("1")
	if i.counter(waitTimeouts) != 0 {
		t.Error("an instance waited for the lock although the document is in Redis")
	}
}

// TestReleasedForeignLockIsUsedAgain checks that the lock saves work again.
func TestReleasedForeignLockIsUsedAgain(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	client.Set(t.Context(), lockKey, "x", 0)
	d := newDatabase(document(1))
	i := share(t, d, server.URL())
	i.awaitValue("1")
	client.Del(t.Context(), lockKey)
	d.change(document(2), version(2))
	i.awaitValue("2")
	i.awaitLog("the lock in Redis can be acquired again")
}

// TestForeignLockDoesNotKeepAFileOutOfRedis is C39 for a source that is not
// shared: Redis lost the document.
func TestForeignLockDoesNotKeepAFileOutOfRedis(t *testing.T) {
	server := redistest.Start(t)
	i := start(t, document(1), server)
	i.awaitValue("1")
	awaitCached(t, server, document(1))
	client := server.Client()
	client.Set(t.Context(), lockKey, "x", 0)
	client.Del(t.Context(), "feature_flags:test")
	awaitCached(t, server, document(1))
}

// TestChangingDocumentInRedisDelaysNothing is C39 for documents that never stay the
// same: none of them is the source's.
func TestChangingDocumentInRedisDelaysNothing(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(many(10, 1))
	i := share(t, d, server.URL())
	i.awaitValue("1")
	client := server.Client()
	n := 100
	repeat(t, func(ctx context.Context) {
		n++
		forged := cache.Sealer{}.Seal("feature_flags:test", entry(version(2), many(2, n)))
		client.Set(ctx, "feature_flags:test", forged, 0)
		client.Publish(ctx, "feature_flags_changed:test", "")
	})
	i.awaitLog("the source does not have this document")
	d.change(many(10, 3), version(3))
	i.awaitValue("3")
}

// TestGarbageMessagesAreHarmless is C39 for the channel: any message only causes
// a lookup.
func TestGarbageMessagesAreHarmless(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(1))
	i := share(t, d, server.URL())
	i.awaitValue("1")
	client := server.Client()
	messages := []string{"", "\x00\xff", "{", "*1\r\n$3\r\nfoo\r\n", strings.Repeat("A", 4<<20)}
	n := 0
	repeat(t, func(ctx context.Context) {
		n++
		client.Publish(ctx, "feature_flags_changed:test", messages[n%len(messages)])
	})
	for number := 2; number < 5; number++ {
		d.change(document(number), version(int64(number)))
		i.awaitValue(fmt.Sprint(number))
	}
	if loads, _ := d.count(); loads > 8 {
		t.Errorf("the source was read %d times for three changes", loads)
	}
}

// repeat calls do every 20 ms until the test ends.
func repeat(t *testing.T, do func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	do(ctx)
	running.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				do(ctx)
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

func TestUnansweredRedisIsReadMoreOften(t *testing.T) {
	seldom := func(o *snapshot.Options) { o.CacheInterval = time.Hour }
	for name, begin := range map[string]func(*redistest.Server) *instance{
		"with a file": func(server *redistest.Server) *instance { return start(t, document(1), server, seldom) },
		"with a database": func(server *redistest.Server) *instance {
			return share(t, newDatabase(document(1)), server.URL(), seldom)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			server.Kill()
			i := begin(server)
			redistest.Eventually(t, soon, "it read Redis too rarely", func() bool { return i.lookups("error") >= 3 })
			server.Restart()
			redistest.Eventually(t, soon, "it did not reach Redis", func() bool { return i.lookups("hit")+i.lookups("miss") > 0 })
		})
	}
}
