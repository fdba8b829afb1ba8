// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/redistest"
)

// recovery is long enough for a probe, even on a busy machine.
const recovery = 15 * time.Second

func (r *testCache) awaitBreaker(t *testing.T, open bool) {
	t.Helper()
	redistest.Eventually(t, recovery, "the breaker did not change", func() bool { return r.breaker.isOpen() == open })
}

// readsSoon waits until the document can be read.
func (r *testCache) readsSoon(t *testing.T, want string) {
	t.Helper()
	redistest.Eventually(t, recovery, "the document could not be read again", func() bool {
		entry, err := r.Read(t.Context())
		return err == nil && string(entry.Data) == want
	})
}

// TestBreakerOpensImmediatelyAndProbes is C1 and C2: only the first operation waits
// for an unavailable Redis, and not for long.
func TestBreakerOpensImmediatelyAndProbes(t *testing.T) {
	outages := map[string]struct{ begin, end func(*redistest.Server) }{
		"killed": {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"paused": {(*redistest.Server).Pause, (*redistest.Server).Resume},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			r := connectedTo(t, server)
			outage.begin(server)
			_, _ = r.Read(t.Context())
			if !r.breaker.isOpen() || testutil.ToFloat64(r.breaker.state) != 1 {
				t.Fatal("the breaker is closed")
			}
			for range 100 {
				if _, err := r.Read(t.Context()); !errors.Is(err, errUnavailable) {
					t.Fatalf("an open breaker lets a read through: %v", err)
				}
			}
			if err := r.Store(t.Context(), Entry{State: number(1), Data: []byte("one")}); !errors.Is(err, errUnavailable) {
				t.Errorf("an open breaker lets a write through: %v", err)
			}
			seen := r.changes.Load()
			outage.end(server)
			r.awaitBreaker(t, false)
			// The document may have changed meanwhile.
			r.awaitChange(t, seen)
			r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
		})
	}
}

// TestBreakerOpensBeforeTheTimeout: other operations need not wait long
// before the first one has timed out.
func TestBreakerOpensBeforeTheTimeout(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	server.Pause()
	defer server.Resume()
	waiting := make(chan struct{})
	go func() { defer close(waiting); _, _ = r.Read(t.Context()) }()
	if !r.breaker.await(t.Context(), true, waiting) {
		t.Error("the breaker was not open before the timeout")
	}
	<-waiting
}

// TestSlowRedisIsUsed: a late reply is still used.
func TestSlowRedisIsUsed(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
	server.Pause()
	time.AfterFunc(2*openDelay, server.Resume)
	r.mustRead(t, "one")
	if r.breaker.isOpen() {
		t.Error("the reply did not close the breaker")
	}
}

// TestUnavailableRedisIsProbedOncePerSecond counts connection attempts to an
// unavailable server.
func TestUnavailableRedisIsProbedOncePerSecond(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	r := runCache(t, Options{URL: proxy.URL()})
	r.awaitChange(t, 1)
	proxy.Point("127.0.0.1:1")
	proxy.Cut()
	r.awaitBreaker(t, true)
	before, began := proxy.Dials(), time.Now()
	stop := time.AfterFunc(3*time.Second, func() { proxy.Point(server.Addr) })
	defer stop.Stop()
	for r.breaker.isOpen() {
		if _, err := r.Read(t.Context()); err == nil {
			t.Fatal("the read succeeded")
		}
	}
	// A probe dials at most three times.
	dials, limit := proxy.Dials()-before, maxAttempts*int(2+time.Since(began)/(probeInterval*3/4))
	if dials > limit {
		t.Errorf("%d connections were attempted in %s, more than %d", dials, time.Since(began), limit)
	}
}

// sealedIn returns a document whose envelope has the given size.
func sealedIn(size int) (Entry, []byte) {
	e := Entry{State: number(1)}
	for len(Sealer{}.Seal(testKey, e)) < size {
		e.Data = append(e.Data, `{"flags":{}}`[len(e.Data)%12])
	}
	return e, Sealer{}.Seal(testKey, e)
}

// TestTruncatedRepliesAreErrors is C4: the connection is closed after
// each possible number of bytes of the reply.
func TestTruncatedRepliesAreErrors(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.StartProxy(t, server.Addr)
	r := runCache(t, Options{URL: proxy.URL(), Connections: 1})
	r.awaitChange(t, 0)
	entry, value := sealedIn(512)
	r.mustStore(t, entry)
	reply := "$512\r\n" + string(value) + "\r\n"
	for cut := range len(reply) {
		proxy.Corrupt(func(_ int, part []byte) ([]byte, bool) {
			at := bytes.Index(part, []byte("$512\r\n"))
			if at < 0 {
				return part, true
			}
			return part[:at+cut], false
		})
		// Reset the breaker, or each case would take a second.
		r.breaker.set(false)
		if got, err := r.Read(t.Context()); err == nil || errors.Is(err, ErrMiss) {
			t.Fatalf("with the reply truncated after %d bytes the read returns %q, %v", cut, got.Data, err)
		}
		proxy.Corrupt(nil)
		r.breaker.set(false)
		redistest.Eventually(t, recovery, "the document could not be read again", func() bool {
			r.breaker.set(false)
			got, err := r.Read(t.Context())
			if err == nil && !bytes.Equal(got.Data, entry.Data) {
				t.Fatalf("after a reply truncated at %d bytes the read returns %q", cut, got.Data)
			}
			return err == nil
		})
	}
}

// TestCorruptedRepliesAreMisses is C11 for the network: each byte of the
// reply is corrupted in transit.
func TestCorruptedRepliesAreMisses(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	proxy := redistest.StartProxy(t, server.Addr)
	r := runCache(t, Options{URL: proxy.URL(), Connections: 1})
	r.awaitChange(t, 0)
	_, value := sealedIn(512)
	for at := range len(value) {
		client.Set(t.Context(), testKey, value, 0)
		proxy.Corrupt(func(_ int, part []byte) ([]byte, bool) {
			corrupted := bytes.Clone(part)
			if begin := bytes.Index(corrupted, []byte("$512\r\n")); begin >= 0 {
				corrupted[begin+6+at] ^= 1
			}
			return corrupted, true
		})
		if got, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
			t.Fatalf("with byte %d corrupted the read returns %q, %v", at, got.Data, err)
		}
	}
}

// TestConnectionsToADemotedPrimaryAreReplaced is C5: the name resolves to the
// new primary while connections to the old one, which now rejects writes, stay
// open.
func TestConnectionsToADemotedPrimaryAreReplaced(t *testing.T) {
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	name := redistest.StartProxy(t, primary.Addr)
	r := runCache(t, Options{URL: name.URL()})
	r.awaitChange(t, 1)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})

	promote(t, replica, primary)
	if err := r.Store(t.Context(), Entry{State: number(2), Data: []byte("two")}); err == nil {
		t.Fatal("a demoted primary accepted a write")
	}
	name.Point(replica.Addr)
	redistest.Eventually(t, recovery, "writes did not resume", func() bool {
		return r.Store(t.Context(), Entry{State: number(3), Data: []byte("three")}) == nil
	})
	if got := replica.Client().Get(t.Context(), testKey).Val(); !strings.HasSuffix(got, "three") {
		t.Errorf("the new primary holds %q", got)
	}
	r.mustRead(t, "three")
}

func promote(t *testing.T, replica, primary *redistest.Server) {
	t.Helper()
	if err := replica.Client().ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if err := primary.Client().ReplicaOf(t.Context(), "127.0.0.1", replica.Port()).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestReconnectsWhileRedisIsLoading is LOADING of C7, sent by a scripted
// server.
func TestReconnectsWhileRedisIsLoading(t *testing.T) {
	server := redistest.Start(t)
	name := redistest.StartProxy(t, startScripted(t, "-LOADING Redis is loading the dataset in memory\r\n"))
	r := runCache(t, Options{URL: name.URL()})
	r.awaitBreaker(t, true)
	name.Point(server.Addr)
	// Connections to the loading server are still open.
	redistest.Eventually(t, recovery, "the new server was not used", func() bool {
		return r.Store(t.Context(), Entry{State: number(1), Data: []byte("one")}) == nil
	})
}

// TestPasswordRotation is C9: both passwords work for a while, then the
// old one is revoked and its connections are closed.
func TestPasswordRotation(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	rights := []string{"ACL", "SETUSER", "app", "on", ">first-password", "~feature_flags*", "&feature_flags_changed:*",
		"-@all", "+@read", "+@write", "+@connection", "+@transaction", "+@pubsub"}
	mustDo(t, admin, rights...)
	dir := t.TempDir()
	binding(t, dir, map[string]string{"host": "127.0.0.1", "port": server.Port(), "username": "app", "password": "first-password"})
	r := runCache(t, Options{BindingDir: dir})
	r.awaitChange(t, 1)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})

	mustDo(t, admin, "ACL", "SETUSER", "app", ">second-password")
	r.mustRead(t, "one")
	binding(t, dir, map[string]string{"password": "second-password"})
	redistest.Eventually(t, recovery, "the new password was not used", func() bool {
		e := r.currentEndpoint()
		return e != nil && e.Password == "second-password"
	})
	mustDo(t, admin, "ACL", "SETUSER", "app", "<first-password")
	mustDo(t, admin, "CLIENT", "KILL", "USER", "app")
	r.readsSoon(t, "one")
	if logs := r.logs.String(); strings.Contains(logs, "-password") {
		t.Errorf("the log contains a password:\n%s", logs)
	}
}

func mustDo(t *testing.T, client *redis.Client, args ...string) {
	t.Helper()
	list := make([]any, len(args))
	for i, arg := range args {
		list[i] = arg
	}
	if err := client.Do(t.Context(), list...).Err(); err != nil {
		t.Fatalf("%s: %v", strings.Join(args[:2], " "), err)
	}
}

func (c *Cache) currentEndpoint() *endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// TestServerWithoutFreeConnections is C10: other clients hold all its
// connections.
func TestServerWithoutFreeConnections(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	mustDo(t, admin, "CONFIG", "SET", "maxclients", "3")
	var others []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		others = append(others, conn)
	}
	redistest.Eventually(t, recovery, "the connections were not all taken", func() bool { return server.Connections(admin) == 2 })
	r := runCache(t, Options{URL: server.URL()})
	r.awaitBreaker(t, true)
	if _, err := r.Read(t.Context()); err == nil || errors.Is(err, ErrMiss) {
		t.Errorf("the read returns %v", err)
	}
	for _, conn := range others {
		_ = conn.Close()
	}
	mustDo(t, admin, "CONFIG", "SET", "maxclients", "100")
	r.awaitBreaker(t, false)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
}

// TestAttackerWithRedisCannotInject is C12: an attacker who can write to Redis,
// and has seen valid values, forges values.
func TestAttackerWithRedisCannotInject(t *testing.T) {
	server := redistest.Start(t)
	attacker := server.Client()
	secret := []byte("0123456789abcdef")
	sealer := Sealer{Secret: secret}
	seen := sealer.Seal(testKey, Entry{State: number(5), Data: []byte("good")})
	r := runCache(t, Options{URL: server.URL(), KeyFile: keyFile(t, secret)})
	r.awaitChange(t, 1)
	forged := map[string]string{
		"a document":                          "evil",
		"a checksum":                          string(Sealer{}.Seal(testKey, Entry{State: number(9), Data: []byte("evil")})),
		"another key":                         string(Sealer{Secret: []byte("fedcba9876543210")}.Seal(testKey, Entry{State: number(9), Data: []byte("evil")})),
		"a valid header on other data":        strings.Replace(string(seen), "good", "evil", 1),
		"a valid header with a newer version": strings.Replace(string(seen), " 0 5 4 ", " 0 6 4 ", 1),
		"a valid value of another key":        string(sealer.Seal("feature_flags:other", Entry{State: number(9), Data: []byte("evil")})),
		"the previous format":                 strings.Replace(string(seen), "flagcache/3", "flagcache/2", 1),
	}
	for name, value := range forged {
		attacker.Set(t.Context(), testKey, value, 0)
		got, err := r.Read(t.Context())
		if !errors.Is(err, ErrMiss) && !errors.Is(err, ErrUnverified) || len(got.Data) > 0 {
			t.Errorf("%s is accepted: %q, %v", name, got.Data, err)
		}
	}
	attacker.Set(t.Context(), testKey, seen, 0)
	r.mustRead(t, "good")
}

// TestFlushedValuesAreMisses is C14: Redis is flushed continuously.
func TestFlushedValuesAreMisses(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	r := connectedTo(t, server)
	ctx, stop := context.WithCancel(t.Context())
	var emptied atomic.Int64
	var emptying sync.WaitGroup
	emptying.Go(func() {
		for ctx.Err() == nil {
			if client.FlushAll(ctx).Err() == nil {
				emptied.Add(1)
			}
		}
	})
	for i := int64(1); i < 200 || emptied.Load() < 200; i++ {
		r.mustStore(t, Entry{State: number(i), Data: []byte("one")})
		if got, err := r.Read(t.Context()); err != nil && !errors.Is(err, ErrMiss) || err == nil && string(got.Data) != "one" {
			t.Fatalf("the read returns %q, %v", got.Data, err)
		}
	}
	stop()
	emptying.Wait()
}

// TestOlderVersionNeverReplacesANewerOne lets instances write in arbitrary
// order.
func TestOlderVersionNeverReplacesANewerOne(t *testing.T) {
	server := redistest.Start(t)
	r := connectedTo(t, server)
	var writers sync.WaitGroup
	for n := range int64(40) {
		writers.Go(func() {
			// Some concurrent writers give up; the newest must be retried.
			for r.Store(t.Context(), Entry{State: number(n), Data: []byte{byte(n)}}) != nil {
				if n != 39 || t.Context().Err() != nil {
					return
				}
			}
		})
	}
	writers.Wait()
	r.mustRead(t, string([]byte{39}))
	newer := Entry{State: number(1), Data: []byte("of a later epoch")}
	newer.Version.Epoch = 1
	r.mustStore(t, newer)
	r.mustStore(t, Entry{State: number(99), Data: []byte("of an earlier epoch")})
	r.mustRead(t, "of a later epoch")
}
