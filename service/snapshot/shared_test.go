// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/source"
)

// database is a fake for a database that instances share, with configurable
// failures.
type database struct {
	mu       sync.Mutex
	document source.Document
	err      error
	delay    time.Duration
	silent   bool
	// loads counts reads, maxLoading is the maximum of concurrent ones.
	loads, loading, maxLoading int
	began                      []time.Time
}

func newDatabase(content string) *database {
	d := &database{}
	d.change(content, source.Version{Epoch: 1, Number: 1})
	return d
}

func (d *database) change(content string, version source.Version) {
	d.set(func() {
		d.document = source.Document{Data: []byte(content), Digest: source.Digest([]byte(content)), State: source.State{Store: "db", Version: version, Tag: source.Digest([]byte(content))}}
	})
}

func (d *database) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *database) count() (loads, concurrent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loads, d.maxLoading
}

// Watch implements source.Source: it polls the version frequently.
func (d *database) Watch(ctx context.Context, changed func(source.State)) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		d.mu.Lock()
		state, reachable := d.document.State, d.err == nil && !d.silent
		d.mu.Unlock()
		if reachable {
			changed(state)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Load implements source.Source.
func (d *database) Load(ctx context.Context) (source.Document, error) {
	d.mu.Lock()
	d.loads++
	d.loading++
	d.maxLoading = max(d.maxLoading, d.loading)
	d.began = append(d.began, time.Now())
	delay := d.delay
	d.mu.Unlock()
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(delay):
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loading--
	return d.document, errors.Join(err, d.err)
}

// Shared implements source.Source.
func (d *database) Shared() bool { return true }

// share runs an instance on a database, with Redis at the URL unless it is empty.
func share(t *testing.T, d *database, url string, change ...func(*snapshot.Options)) *instance {
	t.Helper()
	i := newInstance(t)
	i.run(url, snapshot.Options{Source: d, Environment: "test", CacheInterval: 2 * time.Second, ShrinkDelay: 100 * time.Millisecond}, change)
	return i
}

func shareAll(t *testing.T, d *database, url string) []*instance {
	t.Helper()
	return []*instance{share(t, d, url), share(t, d, url), share(t, d, url)}
}

func awaitAll(instances []*instance, want string) {
	for _, i := range instances {
		i.t.Helper()
		i.awaitValue(want)
	}
}

func version(number int64) source.Version { return source.Version{Epoch: 1, Number: number} }

// TestColdStartReadsTheSourceOnce is C15: three instances, a slow source, and
// requests that wait for the first flags.
func TestColdStartReadsTheSourceOnce(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(1))
	d.delay = 500 * time.Millisecond
	instances := shareAll(t, d, server.URL())
	var requests sync.WaitGroup
	for n := range 1000 {
		requests.Go(func() { instances[n%3].awaitValue("1") })
	}
	requests.Wait()
	if loads, concurrent := d.count(); loads != 1 || concurrent != 1 {
		t.Errorf("the source was read %d times, %d concurrently", loads, concurrent)
	}
}

// TestChangeIsReadOnceAndReachesAllInstances does the same for every change.
func TestChangeIsReadOnceAndReachesAllInstances(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(1))
	instances := shareAll(t, d, server.URL())
	awaitAll(instances, "1")
	for n := int64(2); n < 8; n++ {
		before, _ := d.count()
		d.change(document(int(n)), version(n))
		began := time.Now()
		awaitAll(instances, fmt.Sprint(n))
		t.Logf("the change reached three instances in %s", time.Since(began))
		if loads, concurrent := d.count(); loads != before+1 || concurrent != 1 {
			t.Errorf("the source was read %d times for one change, %d concurrently", loads-before, concurrent)
		}
	}
}

// TestInvalidationMessageReachesAllInstances: an administrator's message
// is sufficient even if the source reports nothing.
func TestInvalidationMessageReachesAllInstances(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(1))
	instances := shareAll(t, d, server.URL())
	awaitAll(instances, "1")
	d.set(func() { d.silent = true })
	d.change(document(2), version(2))
	client := server.Client()
	client.Del(t.Context(), "feature_flags:test")
	client.Publish(t.Context(), "feature_flags_changed:test", "")
	awaitAll(instances, "2")
}

// TestLostMessagesOnlyDelayChanges is C18: no messages are delivered.
func TestLostMessagesOnlyDelayChanges(t *testing.T) {
	server := redistest.Start(t)
	server.Client().Do(t.Context(), "ACL", "SETUSER", "default", "resetchannels")
	d := newDatabase(document(1))
	instances := shareAll(t, d, server.URL())
	awaitAll(instances, "1")
	d.change(document(2), version(2))
	awaitAll(instances, "2")
}

// TestInstancesReadTheSourceWithoutRedis runs without Redis, and with one
// that is down.
func TestInstancesReadTheSourceWithoutRedis(t *testing.T) {
	for name, url := range map[string]string{"none": "", "down": "redis://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(document(1))
			instances := shareAll(t, d, url)
			awaitAll(instances, "1")
			d.change(document(2), version(2))
			awaitAll(instances, "2")
			if loads, concurrent := d.count(); loads > 6 || concurrent > 3 {
				t.Errorf("three instances read the source %d times, %d concurrently", loads, concurrent)
			}
		})
	}
}

// TestFailingSourceIsReadOncePerSecond is C17.
func TestFailingSourceIsReadOncePerSecond(t *testing.T) {
	for name, withRedis := range map[string]bool{"with Redis": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			url := ""
			if withRedis {
				url = redistest.Start(t).URL()
			}
			d := newDatabase(document(1))
			d.err = errors.New("the database failed")
			i := share(t, d, url)
			redistest.Eventually(t, soon, "it stopped retrying", func() bool { loads, _ := d.count(); return loads >= 4 })
			d.mu.Lock()
			began := d.began
			d.mu.Unlock()
			for n := 1; n < len(began); n++ {
				if gap := began[n].Sub(began[n-1]); gap < 990*time.Millisecond {
					t.Errorf("the source was read again after %s", gap)
				}
			}
			if i.Current() != nil || !strings.Contains(i.SourceError(), "database failed") {
				t.Errorf("it serves %v; source error: %q", i.Current(), i.SourceError())
			}
			d.set(func() { d.err = nil })
			i.awaitValue("1")
		})
	}
}

// TestLockOfAKilledInstanceExpires is C16 and C25: the lock of an instance
// that was killed expires.
func TestLockOfAKilledInstanceExpires(t *testing.T) {
	server := redistest.Start(t)
	server.Client().Set(t.Context(), "feature_flags_lock:test", "a killed instance", cache.LockTime)
	d := newDatabase(document(1))
	instances := shareAll(t, d, server.URL())
	awaitAll(instances, "1")
	if loads, _ := d.count(); loads != 1 {
		t.Errorf("the source was read %d times", loads)
	}
}

// TestOlderVersionIsNeverServed is C6: a failover restored an older
// document, and a replica of the source lags.
func TestOlderVersionIsNeverServed(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(5))
	d.change(document(5), version(5))
	i := share(t, d, server.URL())
	i.awaitValue("5")
	old := cache.Sealer{}.Seal("feature_flags:test", entry(version(4), document(4)))
	client := server.Client()
	client.Set(t.Context(), "feature_flags:test", old, 0)
	client.Publish(t.Context(), "feature_flags_changed:test", "")
	// It restores what Redis has lost.
	awaitCached(t, server, document(5))
	if i.value() != "5" {
		t.Errorf("it serves %s", i.value())
	}

	lagging := entry(version(3), document(3)).State
	lagging.Lagging = true
	d.set(func() {
		d.document = source.Document{Data: []byte(document(3)), Digest: source.Digest([]byte(document(3))), State: lagging}
	})
	client.FlushAll(t.Context())
	client.Publish(t.Context(), "feature_flags_changed:test", "")
	i.awaitLog("older than the served flags: 1.3 after 1.5")
	if i.value() != "5" {
		t.Errorf("it serves %s", i.value())
	}
	// A restored database has another epoch, so its lower numbers are newer.
	d.change(document(1), source.Version{Epoch: 2, Number: 1})
	i.awaitValue("1")
	awaitCached(t, server, document(1))
}

// TestServesForADayWithoutSourceAndRedis is C21.
func TestServesForADayWithoutSourceAndRedis(t *testing.T) {
	server := redistest.Start(t)
	d := newDatabase(document(1))
	i := share(t, d, server.URL())
	i.awaitValue("1")
	server.Kill()
	d.set(func() { d.err = errors.New("unreachable") })
	i.clock.Add(int64(24 * time.Hour))
	i.awaitLog("cannot use the source, keeping the last good flags")
	if i.value() != "1" || i.metric("flag_config_age_seconds") < 24*3600 {
		t.Errorf("after a day it serves %s, %v s old", i.value(), i.metric("flag_config_age_seconds"))
	}
	d.set(func() { d.err = nil })
	d.change(document(2), version(2))
	i.awaitValue("2")
}

// many returns a document with the given number of flags, one of which has the
// value.
func many(flags, value int) string {
	list := []string{fmt.Sprintf(`"flag":{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}`, value)}
	for n := 1; n < flags; n++ {
		list = append(list, fmt.Sprintf(`"flag%d":{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}`, n))
	}
	return `{"flags":{` + strings.Join(list, ",") + `}}`
}

// TestShrunkSetIsReadTwice is the last part of C20: more than half of the
// flags are missing.
func TestShrunkSetIsReadTwice(t *testing.T) {
	t.Run("a database that is being restored", func(t *testing.T) {
		d := newDatabase(many(10, 1))
		i := share(t, d, "", func(o *snapshot.Options) { o.ShrinkDelay = time.Hour })
		i.awaitValue("1")
		d.change(many(4, 2), version(2))
		i.awaitLog("most flags are missing")
		if i.value() != "1" {
			t.Errorf("it serves %s", i.value())
		}
		d.change(many(10, 3), version(3))
		i.awaitValue("3")
	})
	t.Run("a database that returns the same set twice", func(t *testing.T) {
		server := redistest.Start(t)
		d := newDatabase(many(10, 1))
		instances := shareAll(t, d, server.URL())
		awaitAll(instances, "1")
		d.change(many(4, 2), version(2))
		awaitAll(instances, "2")
		if !strings.Contains(instances[0].logs.String(), "most flags are missing") {
			t.Error("the set was served without a second read")
		}
	})
	t.Run("a file", func(t *testing.T) {
		i := start(t, many(10, 1), nil)
		i.awaitValue("1")
		i.write(many(4, 2))
		i.awaitLog("most flags are missing")
		i.awaitValue("2")
	})
	t.Run("half of the flags", func(t *testing.T) {
		i := start(t, many(10, 1), nil)
		i.awaitValue("1")
		i.write(many(5, 2))
		i.awaitValue("2")
		if strings.Contains(i.logs.String(), "most flags are missing") {
			t.Error("it was read a second time")
		}
	})
}

// TestClockJumpsAreHarmless is C34 for the worst case, a clock without a
// monotonic part: in whichever direction it jumps, flags are served and
// updated, and the age is correct again with the next version that the source
// reports.
func TestClockJumpsAreHarmless(t *testing.T) {
	d := newDatabase(document(1))
	i := share(t, d, redistest.Start(t).URL())
	i.awaitValue("1")
	for n, jump := range []time.Duration{-24 * time.Hour, 24 * time.Hour, -time.Second} {
		i.clock.Add(int64(jump))
		if i.value() == "" {
			t.Errorf("nothing is served after a jump by %s", jump)
		}
		next := int64(n) + 2
		d.change(document(int(next)), version(next))
		i.awaitValue(fmt.Sprint(next))
		redistest.Eventually(t, soon, "the age is wrong after a jump by "+jump.String(), func() bool {
			return i.Age() >= 0 && i.Age() < time.Hour
		})
	}
}

// TestStartsWithWhateverIsAvailable is C22 and C23: all 27 combinations of the states
// of source, Redis and last good file.
func TestStartsWithWhateverIsAvailable(t *testing.T) {
	states := []string{"up", "down", "slow"}
	for _, ofSource := range states {
		for _, ofRedis := range states {
			for _, ofFile := range []string{"present", "absent", "broken"} {
				t.Run("source "+ofSource+", Redis "+ofRedis+", file "+ofFile, func(t *testing.T) {
					t.Parallel()
					startWith(t, ofSource, ofRedis, ofFile)
				})
			}
		}
	}
}

func startWith(t *testing.T, ofSource, ofRedis, ofFile string) {
	server := redistest.Start(t)
	warm := cache.Sealer{}.Seal("feature_flags:test", entry(version(1), document(1)))
	server.Client().Set(t.Context(), "feature_flags:test", warm, 0)
	d := newDatabase(document(1))
	file := filepath.Join(t.TempDir(), "last-good")
	switch ofFile {
	case "present":
		put(t, file, string(cache.Sealer{}.Seal("last_good:test", entry(version(1), document(1)))))
	case "broken":
		put(t, file, "flagcache/2 truncated")
	}
	switch ofSource {
	case "down":
		d.err = errors.New("unreachable")
	case "slow":
		d.delay = time.Second
	}
	switch ofRedis {
	case "down":
		server.Kill()
	case "slow":
		server.Pause()
		resume := time.AfterFunc(time.Second, server.Resume)
		t.Cleanup(func() { resume.Stop() })
	}
	i := share(t, d, server.URL(), func(o *snapshot.Options) { o.LastGoodFile = file })
	if ofSource == "down" && ofRedis == "down" && ofFile != "present" {
		i.awaitLog("cannot use the source")
		if i.Current() != nil {
			t.Fatalf("it serves %s although nothing is available", i.value())
		}
		d.set(func() { d.err = nil })
	}
	i.awaitValue("1")
}

// entry returns the entry of a document as the database has it.
func entry(version source.Version, content string) cache.Entry {
	return cache.Entry{State: source.State{Store: "db", Version: version, Tag: source.Digest([]byte(content))}, Data: []byte(content)}
}
