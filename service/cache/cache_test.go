// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/service/logtest"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey     = "feature_flags:test"
	testChannel = "feature_flags_changed:test"
)

// testCache is a cache that runs until the test ends, with the number of calls of
// changed.
type testCache struct {
	*Cache
	changes atomic.Int64
	logs    *logtest.Buffer
}

func number(n int64) source.State { return source.State{Version: source.Version{Number: n}} }

// atLeast accepts documents of a version or a newer one.
func atLeast(s source.State) func(Entry) bool {
	return func(stored Entry) bool { return stored.Version.Compare(s.Version) >= 0 }
}

func runCache(t *testing.T, options Options) *testCache {
	t.Helper()
	r := &testCache{logs: &logtest.Buffer{}}
	options.Environment = "test"
	options.TTL = 5 * time.Minute
	options.MaxSize = 1 << 20
	options.DialTimeout = time.Second
	options.Log = slog.New(slog.NewTextHandler(io.MultiWriter(r.logs, t.Output()), nil))
	if options.Connections == 0 {
		options.Connections = 10
	}
	r.Cache = New(options, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { r.Run(ctx, func() { r.changes.Add(1) }) })
	t.Cleanup(func() { cancel(); ended.Wait() })
	return r
}

// connectedTo runs a cache on a server and waits until it has subscribed.
func connectedTo(t *testing.T, server *redistest.Server) *testCache {
	t.Helper()
	r := runCache(t, Options{URL: server.URL()})
	// It calls changed when Redis is configured, and again when it has subscribed.
	r.awaitChange(t, 1)
	return r
}

func (r *testCache) awaitChange(t *testing.T, after int64) {
	t.Helper()
	redistest.Eventually(t, 5*time.Second, "changed was not called", func() bool { return r.changes.Load() > after })
}

func (r *testCache) mustStore(t *testing.T, e Entry) {
	t.Helper()
	if err := r.Store(t.Context(), e); err != nil {
		t.Fatalf("storing: %v", err)
	}
}

func (r *testCache) mustRead(t *testing.T, want string) {
	t.Helper()
	entry, err := r.Read(t.Context())
	if err != nil || string(entry.Data) != want {
		t.Fatalf("read %q (%v), not %q", entry.Data, err, want)
	}
}

func TestStoreAndRead(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	r := connectedTo(t, server)

	if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
		t.Fatalf("reading an empty Redis returns %v, not a miss", err)
	}
	seen := r.changes.Load()
	r.mustStore(t, Entry{State: number(2), Data: []byte("two")})
	r.mustRead(t, "two")
	r.awaitChange(t, seen)

	ttl := client.PTTL(t.Context(), testKey).Val()
	if ttl < 269*time.Second || ttl > 330*time.Second {
		t.Errorf("the TTL of the entry is %s, not 300 s with a jitter of 10 %%", ttl)
	}

	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
	r.mustRead(t, "two")
	r.mustStore(t, Entry{State: number(3), Data: []byte("three")})
	r.mustRead(t, "three")

	for result, want := range map[string]float64{"hit": 3, "miss": 1, "error": 0} {
		if got := testutil.ToFloat64(r.requests.WithLabelValues(result)); got != want {
			t.Errorf("%v lookups are counted as %s, not %v", got, result, want)
		}
	}
}

func TestInvalidateDeletesAndNotifies(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	seen := r.changes.Load()
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
	r.awaitChange(t, seen)
	seen = r.changes.Load()
	if err := r.Invalidate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.awaitChange(t, seen)
	if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
		t.Errorf("after invalidation a read returns %v, not a miss", err)
	}
}

func TestOneInstanceRefills(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	published := client.Subscribe(t.Context(), testChannel)
	defer func() { _ = published.Close() }()
	if _, err := published.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	var fills atomic.Int64
	for range 5 {
		r := connectedTo(t, server)
		writers.Go(func() {
			fill := func(context.Context) (Entry, error) {
				fills.Add(1)
				return Entry{State: number(1), Data: []byte("one")}, nil
			}
			if err := r.Refill(t.Context(), atLeast(number(1)), fill); err != nil && !errors.Is(err, ErrBusy) {
				t.Errorf("refilling: %v", err)
			}
		})
	}
	writers.Wait()
	if fills.Load() != 1 {
		t.Errorf("%d instances filled the cache", fills.Load())
	}
	if _, err := published.ReceiveMessage(t.Context()); err != nil {
		t.Fatalf("no instance wrote: %v", err)
	}
	client.Publish(t.Context(), testChannel, "end")
	if message, err := published.ReceiveMessage(t.Context()); err != nil || message.Payload != "end" {
		t.Errorf("there was more than one write: %v %v", message, err)
	}
	if client.Exists(t.Context(), "feature_flags_lock:test").Val() != 0 {
		t.Error("the lock was not released")
	}
}

func TestRefillRespectsTheLock(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	r := connectedTo(t, server)
	client.Set(t.Context(), "feature_flags_lock:test", "another instance", 0)
	fill := func(context.Context) (Entry, error) { return Entry{State: number(1), Data: []byte("one")}, nil }
	if err := r.Refill(t.Context(), atLeast(number(1)), fill); !errors.Is(err, ErrBusy) {
		t.Fatalf("the refill returns %v, not ErrBusy", err)
	}
	if client.Exists(t.Context(), testKey).Val() != 0 {
		t.Error("it wrote although another instance held the lock")
	}
	if client.Get(t.Context(), "feature_flags_lock:test").Val() != "another instance" {
		t.Error("it released another instance's lock")
	}
}

func TestPoisonedValuesAreMissesAndDeleted(t *testing.T) {
	good := Sealer{}.Seal(testKey, Entry{State: number(1), Data: []byte("x")})
	poison := map[string]string{
		"an arbitrary string": "{}",
		"a damaged envelope":  strings.Replace(string(good), "x", "y", 1),
		"another key's value": string(Sealer{}.Seal("feature_flags:other", Entry{State: number(1), Data: []byte("x")})),
		"far too large":       strings.Repeat("A", 8<<20),
	}
	server := redistest.Start(t)
	client := server.Client()
	r := connectedTo(t, server)
	for name, value := range poison {
		t.Run(name, func(t *testing.T) {
			client.Set(t.Context(), testKey, value, 0)
			if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
				t.Errorf("the read returns %v, not a miss", err)
			}
			if client.Exists(t.Context(), testKey).Val() != 0 {
				t.Error("the value was not deleted")
			}
		})
	}
	t.Run("another type", func(t *testing.T) {
		client.LPush(t.Context(), testKey, "x")
		if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
			t.Errorf("the read returns %v, not a miss", err)
		}
		r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
		r.mustRead(t, "one")
	})
}

func TestDiscardKeepsAConcurrentlyWrittenValue(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	r := connectedTo(t, server)
	client.Set(t.Context(), testKey, "good", 0)
	if err := r.discard(t.Context(), client, testKey, []byte("bad!")); !errors.Is(err, ErrMiss) {
		t.Errorf("discarding returns %v, not a miss", err)
	}
	if client.Get(t.Context(), testKey).Val() != "good" {
		t.Error("it deleted a value that it had not read")
	}
}

func TestFullRedisRejectsWrites(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
	r := connectedTo(t, server)
	if err := r.Store(t.Context(), Entry{State: number(1), Data: []byte("one")}); err == nil {
		t.Error("storing in a full Redis succeeded")
	}
	if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
		t.Errorf("the read returns %v, not a miss", err)
	}
}

func TestStateChangesAreLoggedOnce(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	server.Kill()
	for range 3 {
		if _, err := r.Read(t.Context()); err == nil || errors.Is(err, ErrMiss) {
			t.Fatalf("reading from a killed Redis returns %v", err)
		}
	}
	if got := testutil.ToFloat64(r.requests.WithLabelValues("error")); got != 3 {
		t.Errorf("%v errors are counted, not 3", got)
	}
	server.Restart()
	// A pool whose connections all failed retries once per second.
	redistest.Eventually(t, 15*time.Second, "a restarted Redis was not used", func() bool {
		_, err := r.Read(t.Context())
		return errors.Is(err, ErrMiss)
	})
	logs := r.logs.String()
	if strings.Count(logs, "Redis is unavailable") != 1 || strings.Count(logs, "Redis is available again") != 1 {
		t.Errorf("the log is not one line for each change:\n%s", logs)
	}
}

func TestReconnectionIsReportedAsAChange(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	seen := r.changes.Load()
	server.Kill()
	server.Restart()
	redistest.Eventually(t, 15*time.Second, "the reconnection was not reported as a change", func() bool { return r.changes.Load() > seen })
}

func TestTimeoutsAreShort(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	server.Pause()
	defer server.Resume()
	start := time.Now()
	if _, err := r.Read(t.Context()); err == nil {
		t.Fatal("reading from a paused Redis succeeded")
	}
	// Three attempts of half a second each and the waits between them.
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the read took %s", took)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	r := runCache(t, Options{URL: server.URL(), Connections: 3})
	r.awaitChange(t, 0)
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			for range 50 {
				// Some fail because the pool is exhausted, which is intended.
				_, _ = r.Read(t.Context())
			}
		})
	}
	highest := 0
	done := make(chan struct{})
	go func() { readers.Wait(); close(done) }()
	for watching := true; watching; {
		highest = max(highest, server.Connections(client))
		select {
		case <-done:
			watching = false
		default:
		}
	}
	if highest > 3 {
		t.Errorf("%d connections were open, not at most 3", highest)
	}
}

func TestSingleConnectionIsSufficient(t *testing.T) {
	server := redistest.Start(t)
	r := runCache(t, Options{URL: server.URL(), Connections: 1})
	redistest.Eventually(t, 5*time.Second, "the URL was not used", func() bool {
		_, _, _, err := r.connected()
		return err == nil
	})
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
	r.mustRead(t, "one")
	if n := server.Connections(server.Client()); n > 1 {
		t.Errorf("%d connections are open, not one", n)
	}
}

// keyFile writes a key that authenticates values.
func keyFile(t *testing.T, secret []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hmac-key")
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfiguredKeyIsRequiredAndReloaded(t *testing.T) {
	server := redistest.Start(t)
	file := filepath.Join(t.TempDir(), "hmac-key")
	r := runCache(t, Options{URL: server.URL(), KeyFile: file})
	redistest.Eventually(t, 5*time.Second, "the missing key was not logged", func() bool {
		return strings.Contains(r.logs.String(), "reading the key")
	})
	if err := r.Store(t.Context(), Entry{State: number(1), Data: []byte("one")}); err == nil {
		t.Fatal("it stored a value without the configured key")
	}
	for _, key := range []string{"0123456789abcdef", "another key of the sort"} {
		if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		redistest.Eventually(t, 10*time.Second, "the key was not used", func() bool {
			_, s, _, err := r.connected()
			return err == nil && string(s.Secret) == key
		})
		if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) && !errors.Is(err, ErrUnverified) {
			t.Fatalf("reading a value under the previous key returns %v", err)
		}
		r.mustStore(t, Entry{State: number(1), Data: []byte(key), Supersedes: true})
		r.mustRead(t, key)
	}
}

func TestCheckURL(t *testing.T) {
	for _, good := range []string{"redis://h", "redis://u:p@h:1/2", "rediss://h:6380"} {
		if err := CheckURL(good); err != nil {
			t.Errorf("%s is rejected: %v", good, err)
		}
	}
	for _, bad := range []string{"", "h:6379", "http://h", "unix:///secret", "redis://h/secret", "redis://u:secret@h:port"} {
		if err := CheckURL(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s is not rejected as expected: %v", bad, err)
		}
	}
}

// TestServerErrorsAreReturned uses scripted replies, because a real
// server cannot be made to send them in a test.
func TestServerErrorsAreReturned(t *testing.T) {
	for _, reply := range []string{"LOADING x", "MASTERDOWN x", "CLUSTERDOWN x", "OOM x", "MISCONF x", "NOAUTH x", "WRONGPASS x",
		"NOPERM x", "MOVED 1 127.0.0.1:1", "READONLY x", "TRYAGAIN x", "ERR x", "WHATEVER"} {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			r := runCache(t, Options{URL: "redis://" + startScripted(t, "-"+reply+"\r\n")})
			redistest.Eventually(t, 5*time.Second, "the URL was not used", func() bool {
				_, _, _, err := r.connected()
				return err == nil
			})
			if _, err := r.Read(t.Context()); err == nil || errors.Is(err, ErrMiss) {
				t.Errorf("the read returns %v", err)
			}
		})
	}
}

// startScripted starts a server that sends the same reply to every command.
func startScripted(t *testing.T, reply string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); connections.Wait() })
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { serveScripted(conn, reply) })
		}
	})
	return listener.Addr().String()
}

func serveScripted(conn net.Conn, reply string) {
	defer func() { _ = conn.Close() }()
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		// A pipeline of several commands needs as many replies.
		commands := strings.Count("\n"+string(buffer[:n]), "\n*")
		if _, err := fmt.Fprint(conn, strings.Repeat(reply, max(1, commands))); err != nil {
			return
		}
	}
}
