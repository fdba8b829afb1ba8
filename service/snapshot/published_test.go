// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/source"
)

const publishedStore = "flagcache:shop/demo"

// publisher plays an operator and the kubelet of one node.
type publisher struct {
	*instance
	dir string
}

// numbered starts an instance that reads published flags, with the number and value that are
// mounted; none if the number is 0.
func numbered(t *testing.T, number int64, value int, server *redistest.Server, change ...func(*snapshot.Options)) *publisher {
	t.Helper()
	p := &publisher{instance: newInstance(t), dir: t.TempDir()}
	if number > 0 {
		p.publish(number, value)
	}
	url := ""
	if server != nil {
		url = server.URL()
	}
	p.run(url, snapshot.Options{
		Source:        source.NewPublished(filepath.Join(p.dir, config.FlagsManifestKey), publishedStore, flags.MaxSize, 50*time.Millisecond, p.log),
		Store:         publishedStore,
		Numbered:      true,
		Authenticated: true,
		CacheInterval: 400 * time.Millisecond,
	}, change)
	return p
}

// publish updates the mount.
func (p *publisher) publish(number int64, value int) {
	p.t.Helper()
	text := document(value)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, err := w.Write([]byte(text))
	if err != nil || w.Close() != nil {
		p.t.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"version":1,"store":%q,"current":{"number":%d,"digest":%q,"publishedAt":"2026-06-01T12:00:00Z"}}`, publishedStore, number, source.Digest([]byte(text)))
	for name, content := range map[string]string{config.FlagsManifestKey: manifest, config.FlagsDocumentKey: compressed.String()} {
		if err := os.WriteFile(filepath.Join(p.dir, name+".new"), []byte(content), 0o600); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(p.dir, name+".new"), filepath.Join(p.dir, name)); err != nil {
			p.t.Fatal(err)
		}
	}
}

func numberedState(number int64) source.State {
	return source.State{Store: publishedStore, Version: source.Version{Epoch: source.PublishedEpoch, Number: number}}
}

// One node updates its mount before another.
func TestNumberReachesInstancesWhoseMountIsBehind(t *testing.T) {
	server := redistest.Start(t)
	first, second := numbered(t, 1, 1, server), numbered(t, 1, 1, server)
	first.awaitValue("1")
	second.awaitValue("1")
	first.publish(2, 2)
	second.awaitValue("2")
	second.never("1")
	if reason := second.SourceError(); reason != "" {
		t.Errorf("a mount that is behind is reported as an error: %s", reason)
	}
	second.publish(3, 3)
	first.awaitValue("3")
	second.awaitValue("3")
	// A mount that is behind brings a document that was already replaced.
	first.publish(2, 2)
	first.never("2")
	first.publish(4, 4)
	first.awaitValue("4")
}

func TestHighestNumberIsServed(t *testing.T) {
	server := redistest.Start(t)
	p := numbered(t, 5, 5, server)
	p.awaitValue("5")
	awaitCached(t, server, document(5))
	put := func(state source.State, value int) {
		t.Helper()
		server.Client().Set(t.Context(), documentKey, cache.Sealer{}.Seal(documentKey, cache.Entry{State: state, Data: []byte(document(value))}), time.Minute)
		server.Client().Publish(t.Context(), "feature_flags_changed:test", "")
	}
	put(numberedState(4), 4)
	p.never("4")
	put(numberedState(5), 50)
	p.never("50")
	put(source.State{Store: publishedStore, Version: source.Version{Number: time.Now().UnixNano()}}, 8)
	p.never("8")
	put(source.State{Store: "flagcache:shop/other", Version: source.Version{Epoch: source.PublishedEpoch, Number: 9}}, 9)
	p.never("9")
	put(source.State{Store: publishedStore, Version: source.Version{Epoch: source.PublishedEpoch, Number: time.Now().Add(72 * time.Hour).Unix()}}, 10)
	p.never("10")
	put(numberedState(6), 6)
	p.awaitValue("6")
	if got := p.Current().Version.Number; got != 6 {
		t.Errorf("the number is %d", got)
	}
	// The same flags again have a higher number.
	put(numberedState(7), 6)
	redistest.Eventually(t, soon, "the number is not that of the latest document", func() bool { return p.Current().Version.Number == 7 })
	p.publish(8, 5)
	p.awaitValue("5")
}

// Whoever can write to Redis can store a document again that was there days ago. It is used only
// where there is nothing else.
func TestDocumentStoredAgainIsAHint(t *testing.T) {
	server := redistest.Start(t)
	put := func(number int64, value int, sealedAt time.Time) {
		t.Helper()
		server.Client().Set(t.Context(), documentKey, cache.Sealer{}.Seal(documentKey, cache.Entry{State: numberedState(number), Data: []byte(document(value)), SealedAt: sealedAt}), time.Minute)
		server.Client().Publish(t.Context(), "feature_flags_changed:test", "")
	}
	week := time.Now().Add(-7 * 24 * time.Hour)
	put(6, 6, week)
	without := numbered(t, 0, 0, server)
	without.awaitValue("6")
	p := numbered(t, 5, 5, server)
	p.awaitValue("5")
	p.never("6")
	put(7, 7, time.Now())
	p.awaitValue("7")
	without.awaitValue("7")
}

// Whoever can write to a Redis without a key could choose any number.
func TestNumbersInRedisNeedAKey(t *testing.T) {
	server := redistest.Start(t)
	p := numbered(t, 5, 5, server, func(o *snapshot.Options) { o.Authenticated = false })
	p.awaitValue("5")
	server.Client().Set(t.Context(), documentKey, cache.Sealer{}.Seal(documentKey, cache.Entry{State: numberedState(6), Data: []byte(document(6))}), time.Minute)
	server.Client().Publish(t.Context(), "feature_flags_changed:test", "")
	p.never("6")
	p.publish(7, 7)
	p.awaitValue("7")
}

// Whoever edits the ConfigMap must not choose a number that no later one reaches.
func TestNumbersOfTheFutureCountAsNone(t *testing.T) {
	server := redistest.Start(t)
	future := time.Now().Add(72 * time.Hour).Unix()
	p := numbered(t, 5, 5, server)
	p.awaitValue("5")
	p.publish(future, 50)
	p.never("50")
	p.publish(6, 6)
	p.awaitValue("6")

	// It is served if there is nothing else: the clock of the node may be wrong.
	alone := numbered(t, future, 50, nil)
	alone.awaitValue("50")
	alone.publish(future+1, 51)
	alone.awaitValue("51")
	alone.publish(2, 2)
	alone.awaitValue("2")
}

func TestClockThatIsBehindLeavesNumbersInRedis(t *testing.T) {
	server := redistest.Start(t)
	future := time.Now().Add(72 * time.Hour).Unix()
	right := func(o *snapshot.Options) { o.Now = func() time.Time { return time.Now().Add(72 * time.Hour) } }
	numbered(t, future, 1, server, right).awaitValue("1")
	awaitCached(t, server, document(1))
	behind := numbered(t, future+1, 2, server)
	behind.awaitValue("2")
	behind.never("1")
	awaitCached(t, server, document(1))
}

func TestRedisStandsInForAMount(t *testing.T) {
	server := redistest.Start(t)
	numbered(t, 3, 3, server).awaitValue("3")
	awaitCached(t, server, document(3))
	p := numbered(t, 0, 0, server)
	p.awaitValue("3")
	p.publish(2, 2)
	p.never("2")
	p.publish(4, 4)
	p.awaitValue("4")
}

// Pods of an earlier release read the ConfigMap of the user, and share Redis during the upgrade.
func TestInstancesWithAFileShareRedis(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	subscription := client.Subscribe(t.Context(), "feature_flags_changed:test")
	t.Cleanup(func() { _ = subscription.Close() })
	messages := subscription.Channel()
	old := start(t, document(1), server, func(o *snapshot.Options) { o.Store = publishedStore })
	old.awaitValue("1")
	p := numbered(t, 1, 1, server)
	p.awaitValue("1")
	p.publish(2, 2)
	p.awaitValue("2")
	old.never("2")
	p.never("1")
	old.write(document(2))
	old.awaitValue("2")
	p.publish(3, 3)
	p.awaitValue("3")
	old.never("3")
	p.never("2")
	old.write(document(3))
	old.awaitValue("3")
	written := 0
	for len(messages) > 0 {
		<-messages
		written++
	}
	if written > 12 {
		t.Errorf("both wrote to Redis %d times for three changes", written)
	}
	old.never("2")
	if len(messages) > 2 {
		t.Errorf("both go on writing to Redis: %d times in a second", len(messages))
	}
}

func TestLastGoodNumberIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "last-good")
	kept := func(o *snapshot.Options) { o.LastGoodFile = file }
	numbered(t, 7, 7, nil, kept).awaitValue("7")
	redistest.Eventually(t, soon, "the file was not written", func() bool { _, err := os.Stat(file); return err == nil })
	next := numbered(t, 6, 6, nil, kept)
	next.awaitValue("7")
	next.never("6")
	next.publish(8, 8)
	next.awaitValue("8")
}
