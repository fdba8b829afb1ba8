// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/source"
)

const documentKey = "feature_flags:test"

// plant stores an entry in Redis, without a time to live.
func plant(t *testing.T, server *redistest.Server, e cache.Entry) {
	t.Helper()
	client := server.Client()
	client.Set(t.Context(), documentKey, cache.Sealer{}.Seal(documentKey, e), 0)
	client.Publish(t.Context(), "feature_flags_changed:test", "")
}

// previousEnvelope returns an envelope in the format of earlier releases.
func previousEnvelope(key string, v source.Version, data string) string {
	fields := fmt.Sprintf("%d %d %d %s\n", v.Epoch, v.Number, len(data), key)
	sum := sha256.Sum256([]byte("flagcache/2 " + fields + data))
	return "flagcache/2 sha256 " + hex.EncodeToString(sum[:]) + " " + fields + data
}

// TestDocumentThatTheSourceDoesNotHaveIsNotServed starts an instance on a Redis
// with a document that is not the database's, and then changes the database.
func TestDocumentThatTheSourceDoesNotHaveIsNotServed(t *testing.T) {
	other := func(v source.Version, content, tag string) cache.Entry {
		e := entry(v, content)
		e.Tag = tag
		return e
	}
	tests := map[string]cache.Entry{
		"far ahead":                         other(version(1<<40), document(9), "x"),
		"a far later epoch":                 other(source.Version{Epoch: 1 << 60}, document(9), "x"),
		"of before a reset":                 other(version(10), document(9), "x"),
		"of the same version":               other(version(3), document(9), "x"),
		"older":                             other(version(2), document(9), "x"),
		"the same flags with a far version": other(version(1<<40), document(1), "x"),
		"without a store and a tag":         {State: source.State{Version: version(1 << 40)}, Data: []byte(document(9))},
	}
	for name, planted := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			plant(t, server, planted)
			d := newDatabase("")
			d.change(document(1), version(3))
			i := share(t, d, server.URL())
			i.awaitValue("1")
			d.change(document(2), version(4))
			i.awaitValue("2")
			// The other instances find the database's document in Redis.
			redistest.Eventually(t, 15*time.Second, "Redis keeps the document", func() bool {
				return strings.HasSuffix(server.Client().Get(t.Context(), documentKey).Val(), document(2))
			})
			plant(t, server, planted)
			i.never("9")
			if i.value() != "2" {
				t.Errorf("it serves %s", i.value())
			}
		})
	}
}

// refused returns how many documents in Redis were refused for a reason.
func (i *instance) refused(reason string) float64 {
	i.t.Helper()
	for _, m := range i.series("flag_cache_refused_total") {
		if m.GetLabel()[0].GetValue() == reason {
			return m.GetCounter().GetValue()
		}
	}
	i.t.Fatalf("there is no counter for %s", reason)
	return 0
}

// TestLastGoodFileOfAnEarlierReleaseIsServed restarts with the file of a release
// with the previous format.
func TestLastGoodFileOfAnEarlierReleaseIsServed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "last-good")
	put(t, file, previousEnvelope("last_good:test", version(7), document(7)))
	d := newDatabase(document(1))
	d.set(func() { d.silent = true; d.err = context.DeadlineExceeded })
	i := share(t, d, "", func(o *snapshot.Options) { o.LastGoodFile = file })
	i.awaitValue("7")
	d.set(func() { d.silent = false; d.err = nil })
	i.awaitValue("1")
}

// never fails if a value is served within a second.
func (i *instance) never(value string) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if i.value() == value {
			i.t.Fatalf("it serves %s", value)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestPreviousFormatIsNotServed has a value of an earlier release, which does not
// identify the store: it is neither served nor kept.
func TestPreviousFormatIsNotServed(t *testing.T) {
	server := redistest.Start(t)
	server.Client().Set(t.Context(), documentKey, previousEnvelope(documentKey, version(1<<40), document(9)), 0)
	i := share(t, newDatabase(document(1)), server.URL())
	i.awaitValue("1")
	awaitCached(t, server, document(1))
}

// TestInstancesOfAnEarlierReleaseShareRedis plays an instance of the previous
// release during a rolling upgrade: it discards the envelopes of this one and stores
// its own. That must not go on for ever.
func TestInstancesOfAnEarlierReleaseShareRedis(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(1))
	client := server.Client()
	subscription := client.Subscribe(t.Context(), "feature_flags_changed:test")
	t.Cleanup(func() { _ = subscription.Close() })
	var discarded atomic.Int64
	go func() {
		for range subscription.Channel() {
			if !strings.HasPrefix(client.Get(context.Background(), documentKey).Val(), "flagcache/3") {
				continue
			}
			discarded.Add(1)
			current, _ := d.Load(context.Background())
			client.Set(context.Background(), documentKey, previousEnvelope(documentKey, current.Version, string(current.Data)), time.Minute)
			client.Publish(context.Background(), "feature_flags_changed:test", "")
		}
	}()
	i := share(t, d, server.URL())
	i.awaitValue("1")
	const changes = 3
	for n := 2; n < 2+changes; n++ {
		d.change(document(n), version(int64(n)))
		i.awaitValue(fmt.Sprint(n))
	}
	i.never("1")
	for range 4 {
		i.never("1")
	}
	if got := discarded.Load(); got > 2*(changes+1) {
		t.Errorf("the envelope was discarded %d times for %d changes", got, changes)
	}
}

// TestTwoDatabasesOnOneRedis has two databases with the same environment: each
// instance serves its own, and the second one reports the first.
func TestTwoDatabasesOnOneRedis(t *testing.T) {
	server := redistest.Start(t)
	first, second := newDatabase(document(1)), newDatabase("")
	a := share(t, first, server.URL())
	a.awaitValue("1")
	awaitCached(t, server, document(1))
	inSecond := func(number int64, content string) {
		second.set(func() {
			second.document = source.Document{
				Data: []byte(content), Digest: source.Digest([]byte(content)),
				State: source.State{Store: "another", Version: version(number), Tag: content},
			}
		})
	}
	inSecond(100, document(100))
	b := share(t, second, server.URL())
	b.awaitValue("100")
	for n := range 3 {
		first.change(document(2+n), version(int64(2+n)))
		inSecond(int64(101+n), document(101+n))
		a.awaitValue(fmt.Sprint(2 + n))
		b.awaitValue(fmt.Sprint(101 + n))
	}
	awaitCached(t, server, document(4))
	b.awaitLog("that of another store")
	if b.refused("foreign") == 0 || !b.Foreign() {
		t.Errorf("the document of another store is not reported: %v", b.Foreign())
	}
	if a.refused("foreign") > 0 || a.Foreign() {
		t.Error("the first instance reports its own document")
	}
}

// TestRedisStandsInForASilentSource starts without the source: what is in Redis
// is served until the source answers something else.
func TestRedisStandsInForASilentSource(t *testing.T) {
	server := redistest.Start(t)
	plant(t, server, entry(version(8), document(8)))
	d := newDatabase("")
	d.change(document(3), version(3))
	d.set(func() { d.silent = true; d.err = context.DeadlineExceeded })
	i := share(t, d, server.URL())
	i.awaitValue("8")
	d.set(func() { d.silent = false; d.err = nil })
	i.awaitValue("3")
	i.awaitLog("the source has an older document than the one served")
}

// TestResetDatabaseIsServed resets the database to an earlier version while the
// instance runs. It is not a replica, so it is right.
func TestResetDatabaseIsServed(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase("")
	d.change(document(10), version(10))
	i := share(t, d, server.URL())
	i.awaitValue("10")
	d.change(document(3), version(3))
	i.awaitValue("3")
	d.change(document(4), version(4))
	i.awaitValue("4")
	redistest.Eventually(t, 15*time.Second, "Redis keeps the document of before the reset", func() bool {
		return strings.HasSuffix(server.Client().Get(t.Context(), documentKey).Val(), document(4))
	})
}

// TestFilesOfAnotherStoreAndOfTheFuture has documents that must not stand in for a
// file that is missing.
func TestFilesOfAnotherStoreAndOfTheFuture(t *testing.T) {
	future := source.Version{Number: time.Now().Add(1000 * time.Hour).UnixNano()}
	tests := map[string]source.State{
		"of another store": {Store: "configmap:2", Version: version(1)},
		"of the future":    {Store: "configmap:1", Version: future},
		"with an epoch":    {Store: "configmap:1", Version: version(1)},
	}
	for name, state := range tests {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			plant(t, server, cache.Entry{State: state, Data: []byte(document(9))})
			i := newInstance(t)
			file := source.NewFile(i.file, 1<<20, 100*time.Millisecond, i.log)
			i.run(server.URL(), snapshot.Options{Source: file, Store: "configmap:1", Environment: "test"}, nil)
			i.awaitLog("not using the document in Redis")
			i.never("9")
			i.write(document(1))
			i.awaitValue("1")
		})
	}
}

// standby changes the fake to a replica, which may be behind, of a store.
func (d *database) standby(store, content string, number int64) {
	d.change(content, version(number))
	d.set(func() { d.document.Store, d.document.Lagging = store, true })
}

// TestClaimInRedisDoesNotFreezeAStandby plants the served flags with a far version while
// the source is silent. The source confirmed the flags, but not that version, so that what
// the source has next is not older.
func TestClaimInRedisDoesNotFreezeAStandby(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase("")
	d.standby("db", document(1), 3)
	i := share(t, d, server.URL())
	i.awaitValue("1")
	awaitCached(t, server, document(1))
	d.set(func() { d.silent = true; d.err = context.DeadlineExceeded })
	i.clock.Add(int64(time.Minute))
	far := entry(version(1<<40), document(1))
	far.Tag = "x"
	before := i.lookups("hit")
	plant(t, server, far)
	redistest.Eventually(t, 15*time.Second, "the planted document is not read", func() bool { return i.lookups("hit") > before })
	d.standby("db", document(2), 4)
	d.set(func() { d.silent = false; d.err = nil })
	i.awaitValue("2")
}

// TestStandbyOfAnotherStoreIsServed changes the source to a replica of another database,
// with lower versions, which say nothing about those of the first one.
func TestStandbyOfAnotherStoreIsServed(t *testing.T) {
	for name, url := range map[string]string{"without Redis": "", "with Redis": redistest.Start(t).URL()} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase("")
			d.standby("db", document(10), 10)
			i := share(t, d, url)
			i.awaitValue("10")
			d.standby("another", document(3), 3)
			i.awaitValue("3")
			if got := i.Current().Store; got != "another" {
				t.Errorf("the store is %q", got)
			}
			d.standby("another", document(4), 4)
			i.awaitValue("4")
		})
	}
}

// TestFileKeepsItsStore has Redis with the served flags, of a later version, but without a
// store, as of an earlier release. What is stored from then on names the file's.
func TestFileKeepsItsStore(t *testing.T) {
	server := redistest.Start(t)
	i := newInstance(t)
	i.write(document(1))
	file := source.NewFile(i.file, 1<<20, 100*time.Millisecond, i.log)
	i.run(server.URL(), snapshot.Options{Source: file, Store: "configmap:1", Environment: "test", CacheInterval: 300 * time.Millisecond}, nil)
	i.awaitValue("1")
	later := source.Version{Number: time.Now().Add(time.Hour).UnixNano()}
	before := i.lookups("hit")
	plant(t, server, cache.Entry{State: source.State{Version: later, Tag: "x"}, Data: []byte(document(1))})
	redistest.Eventually(t, 15*time.Second, "the planted document is not read", func() bool { return i.lookups("hit") > before+1 })
	if got := i.Current().State; got.Store != "configmap:1" || got.Tag != "" {
		t.Errorf("the state of the file became %+v", got)
	}
	i.write(document(2))
	i.awaitValue("2")
	awaitCached(t, server, document(2))
	sealed := server.Client().Get(t.Context(), documentKey).Val()
	if stored, err := (cache.Sealer{}).Open(documentKey, []byte(sealed)); err != nil || stored.Store != "configmap:1" {
		t.Errorf("Redis has the document of %q: %v", stored.Store, err)
	}
}

// withKey lets an instance seal with an integrity key of its own, as those of each
// FlagCache do.
func withKey(t *testing.T, url, key string) func(*snapshot.Options) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	put(t, file, key)
	return func(o *snapshot.Options) {
		o.Cache = cache.New(cache.Options{
			Environment: "test", URL: url, KeyFile: file, TTL: time.Minute, MaxSize: 1 << 20,
			Connections: 4, DialTimeout: 500 * time.Millisecond, Log: o.Log,
		}, prometheus.NewRegistry())
	}
}

// countMessages counts the messages about changes.
func countMessages(t *testing.T, server *redistest.Server) *atomic.Int64 {
	t.Helper()
	subscription := server.Client().Subscribe(t.Context(), "feature_flags_changed:test")
	t.Cleanup(func() { _ = subscription.Close() })
	if _, err := subscription.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	messages := &atomic.Int64{}
	go func() {
		for range subscription.Channel() {
			messages.Add(1)
		}
	}()
	return messages
}

// TestTwoProgramsWithTheirOwnKeysOnOneRedis has two FlagCaches with the same environment
// on one Redis: each serves its own flags, the second one reports it, and they do not
// replace each other's document all the time.
func TestTwoProgramsWithTheirOwnKeysOnOneRedis(t *testing.T) {
	const maxMessages = 6
	file := func(t *testing.T, server *redistest.Server, store, key string) *instance {
		i := newInstance(t)
		i.write(document(1))
		source := source.NewFile(i.file, 1<<20, 100*time.Millisecond, i.log)
		i.run(server.URL(), snapshot.Options{Source: source, Store: store, Environment: "test", CacheInterval: 300 * time.Millisecond},
			[]func(*snapshot.Options){withKey(t, server.URL(), key)})
		i.awaitValue("1")
		return i
	}
	t.Run("files", func(t *testing.T) {
		server := redistest.Start(t)
		messages := countMessages(t, server)
		a := file(t, server, "flagcache:1", "0123456789abcdef")
		awaitCached(t, server, document(1))
		b := file(t, server, "flagcache:2", "fedcba9876543210")
		redistest.Eventually(t, 15*time.Second, "the second program does not report the first", b.Foreign)
		b.write(document(2))
		b.awaitValue("2")
		b.never("1")
		if a.Foreign() || b.refused("foreign") == 0 || b.series("flag_cache_foreign")[0].GetGauge().GetValue() != 1 {
			t.Errorf("the first program reports %v, the second refused %v documents", a.Foreign(), b.refused("foreign"))
		}
		awaitCached(t, server, document(1))
		if got := messages.Load(); got > maxMessages {
			t.Errorf("there were %d messages", got)
		}
	})
	t.Run("one database", func(t *testing.T) {
		server := redistest.Start(t)
		messages := countMessages(t, server)
		d := newDatabase(document(1))
		a := share(t, d, server.URL(), withKey(t, server.URL(), "0123456789abcdef"))
		a.awaitValue("1")
		awaitCached(t, server, document(1))
		b := share(t, d, server.URL(), withKey(t, server.URL(), "fedcba9876543210"))
		b.awaitValue("1")
		d.change(document(2), version(2))
		a.awaitValue("2")
		b.awaitValue("2")
		for range 5 {
			b.never("1")
		}
		if loads, _ := d.count(); loads > 3*maxMessages || messages.Load() > 3*maxMessages {
			t.Errorf("the database was read %d times, and there were %d messages", loads, messages.Load())
		}
	})
}
