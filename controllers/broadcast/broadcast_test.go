// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package broadcast

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/envelope"
	"github.com/flagcache/flagcache/service/redistest"
)

// stored returns the document that a pod reads, by its number.
func stored(t *testing.T, server *redistest.Server) (number int64, document string) {
	t.Helper()
	value, err := server.Client().Get(t.Context(), slotKey).Bytes()
	if err != nil {
		t.Fatalf("reading Redis: %v", err)
	}
	entry, err := envelope.Sealer{Secret: []byte(integrityKey)}.Open(slotKey, value)
	if err != nil {
		t.Fatalf("opening the envelope: %v", err)
	}
	return entry.Version.Number, string(entry.Data)
}

// TestPodsReadWhatTheOperatorWrote: the pods are notified, and open the envelope.
func TestPodsReadWhatTheOperatorWrote(t *testing.T) {
	server := redistest.Start(t)
	var changes atomic.Int64
	pod := aPod(t, server.URL(), integrityKey, func() { changes.Add(1) })
	redistest.Eventually(t, 10*time.Second, "the pod did not subscribe", func() bool {
		return server.Client().PubSubNumSub(t.Context(), "feature_flags_changed:production").Val()["feature_flags_changed:production"] == 1
	})
	before := changes.Load()
	if got := Once(t.Context(), aTarget(server.Addr, 7, "seven"), loopback); got != Stored {
		t.Fatalf("the result is %s", got)
	}
	redistest.Eventually(t, 10*time.Second, "the pod was not notified", func() bool { return changes.Load() > before })
	entry, err := pod.Read(t.Context())
	if err != nil || string(entry.Data) != "seven" || entry.Version.Number != 7 || entry.Store != store {
		t.Errorf("the pod reads %+v, %v", entry, err)
	}
	ttl := server.Client().PTTL(t.Context(), slotKey).Val()
	if ttl < 4*time.Minute || ttl > 6*time.Minute {
		t.Errorf("the time to live is %s", ttl)
	}
}

// TestWhatRedisHas is what is kept in Redis, and what the author of the FlagCache is told.
func TestWhatRedisHas(t *testing.T) {
	const next, other = "nextnextnextnextnextnextnextnext", "otherotherotherotherotherotherot"
	server := redistest.Start(t)
	client := server.Client()
	for name, test := range map[string]struct {
		value []byte
		want  Reason
		kept  bool
	}{
		"nothing":            {nil, Stored, false},
		"a lower number":     {sealed(integrityKey, store, 6, "six"), Stored, false},
		"the same":           {sealed(integrityKey, store, 7, "seven"), Stored, true},
		"a higher number":    {sealed(integrityKey, store, 8, "eight"), Stored, true},
		"the highest number": {sealed(integrityKey, store, math.MaxInt64, "last"), Stored, true},
		"a lower number, sealed with the next key": {sealed(next, store, 6, "six"), Stored, false},
		"the highest number, sealed by others":     {sealed(other, store, math.MaxInt64, "evil"), OtherKey, true},
		"the highest number, not sealed":           {sealed("", store, math.MaxInt64, "evil"), OtherKey, true},
		"the document of another store":            {sealed(integrityKey, "flagcache:pay/checkout", 6, "theirs"), ForeignStore, true},
		"the document of another store and key":    {sealed(other, "flagcache:pay/checkout", 6, "theirs"), ForeignStore, true},
		"somebody's value":                         {[]byte("an important value"), Occupied, true},
		"100 MB":                                   {[]byte(strings.Repeat("x", 100<<20)), Occupied, true},
	} {
		t.Run(name, func(t *testing.T) {
			client.Del(t.Context(), slotKey)
			if test.value != nil {
				client.Set(t.Context(), slotKey, test.value, 0)
			}
			target := aTarget(server.Addr, 7, "seven")
			target.Accepted = []secret.String{secret.New(next)}
			if got := Once(t.Context(), target, loopback); got != test.want {
				t.Errorf("the result is %s, want %s", got, test.want)
			}
			now := client.GetRange(t.Context(), slotKey, 0, 1<<20).Val()
			if kept := now == string(test.value[:min(len(test.value), 1<<20+1)]); kept != test.kept {
				t.Errorf("the value is kept: %t", kept)
			}
			if !test.kept {
				if number, document := stored(t, server); number != 7 || document != "seven" {
					t.Errorf("Redis has number %d, %q", number, document)
				}
			}
		})
	}
	t.Run("a list", func(t *testing.T) {
		client.Del(t.Context(), slotKey)
		client.LPush(t.Context(), slotKey, "x")
		if got := Once(t.Context(), aTarget(server.Addr, 7, "seven"), loopback); got != Occupied {
			t.Errorf("the result is %s", got)
		}
	})
}

// TestNothingIsWrittenTwice: an operator that was restarted reads, and writes nothing.
func TestNothingIsWrittenTwice(t *testing.T) {
	server := redistest.Start(t)
	target := aTarget(server.Addr, 7, "seven")
	target.Environments = []string{"canary", environment}
	writes := func() (n int) {
		for line := range strings.Lines(server.Client().Info(t.Context(), "commandstats").Val()) {
			for _, command := range []string{"set", "publish", "exec", "del"} {
				var calls int
				if _, err := fmt.Sscanf(line, "cmdstat_"+command+":calls=%d,", &calls); err == nil {
					n += calls
				}
			}
		}
		return n
	}
	if got := Once(t.Context(), target, loopback); got != Stored || writes() != 6 {
		t.Fatalf("the result is %s after %d writes", got, writes())
	}
	if got := Once(t.Context(), target, loopback); got != Stored || writes() != 6 {
		t.Errorf("the result is %s after %d writes", got, writes())
	}
}

// TestTheHighestNumberStays: two leaders and old views write at the same time.
func TestTheHighestNumberStays(t *testing.T) {
	server := redistest.Start(t)
	numbers := rand.Perm(40)
	var highest atomic.Int64
	var watched, writers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	watched.Go(func() {
		for ctx.Err() == nil {
			value, err := server.Client().Get(ctx, slotKey).Bytes()
			if err != nil {
				continue
			}
			entry, err := envelope.Sealer{Secret: []byte(integrityKey)}.Open(slotKey, value)
			if err != nil || entry.Version.Number < highest.Load() {
				t.Errorf("Redis has number %d after %d: %v", entry.Version.Number, highest.Load(), err)
			}
			highest.Store(entry.Version.Number)
		}
	})
	for part := range slices.Chunk(numbers, 10) {
		writers.Go(func() {
			for _, n := range part {
				target := aTarget(server.Addr, int64(n+1), fmt.Sprint(n+1))
				redistest.Eventually(t, 30*time.Second, "the document was not written", func() bool { return Once(ctx, target, loopback) == Stored })
			}
		})
	}
	writers.Wait()
	stop()
	watched.Wait()
	if number, document := stored(t, server); number != 40 || document != "40" {
		t.Errorf("Redis has number %d, %q", number, document)
	}
}

// TestRefusedWrites: what a user of Redis lacks is told, and no text of the server.
func TestRefusedWrites(t *testing.T) {
	server := redistest.Start(t)
	acl := server.Client().Do(t.Context(), "ACL", "SETUSER", "probe", "on", ">word", "~flagcache_probe:*", "-@all", "+ping", "+set", "+get", "+info")
	if acl.Err() != nil {
		t.Fatal(acl.Err())
	}
	target := aTarget(server.Addr, 7, "seven")
	target.Redis.Username, target.Redis.Password = "probe", secret.New("word")
	if got := Once(t.Context(), target, loopback); got != "PermissionDenied" {
		t.Errorf("the result is %s", got)
	}
	target.Redis.Password = secret.New("another")
	if got := Once(t.Context(), target, loopback); got != "WrongPassword" {
		t.Errorf("the result is %s", got)
	}
	if n := server.Client().Exists(t.Context(), slotKey).Val(); n != 0 {
		t.Error("the document was written")
	}
}

// TestADocumentOfAnotherDigestIsNotWritten.
func TestADocumentOfAnotherDigestIsNotWritten(t *testing.T) {
	server := redistest.Start(t)
	target := aTarget(server.Addr, 7, "seven")
	target.Digest = aTarget("", 7, "another").Digest
	if got := Once(t.Context(), target, loopback); got != Unreadable || server.Client().DBSize(t.Context()).Val() != 0 {
		t.Errorf("the result is %s", got)
	}
}

// TestAddressesThatAreNotAllowed: nothing is sent there, whatever a name resolves to meanwhile.
func TestAddressesThatAreNotAllowed(t *testing.T) {
	server := redistest.Start(t)
	target := aTarget(server.Addr, 7, "seven")
	if got := Once(t.Context(), target, &dial.Rules{}); got != "AddressNotAllowed" || server.Client().DBSize(t.Context()).Val() != 0 {
		t.Errorf("the result is %s", got)
	}
}

// TestHostileServers: they cost a bounded time and memory, and nothing that they say is repeated.
func TestHostileServers(t *testing.T) {
	reasons := []Reason{"TimedOut", "ProbeFailed", "NotRedis", "NoAnswer", "ReadBackMismatch", ForeignStore, OtherKey, Occupied, Contended}
	const word = "the-password-of-somebody"
	for name, handle := range map[string]func(addr string) string{
		"silent":                 func(string) string { return "" },
		"a huge string":          func(string) string { return "$2147483647\r\n" },
		"a huge list":            func(string) string { return "*1048576\r\n" },
		"nested lists":           func(string) string { return strings.Repeat("*1\r\n", 1<<16) },
		"an error with a secret": func(string) string { return "-" + word + "\r\n" },
		"another protocol":       func(string) string { return "HTTP/1.1 400 " + word + "\r\n\r\n" },
		"always OK":              func(string) string { return "+OK\r\n" },
		"always nil":             func(string) string { return "$-1\r\n" },
		"always 1":               func(string) string { return ":1\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			reply := handle("")
			addr := serve(t, silent)
			if reply != "" {
				addr = serve(t, answering(reply))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := Once(ctx, aTarget(addr, math.MaxInt64, "seven"), loopback)
			runtime.ReadMemStats(&after)
			if ctx.Err() != nil {
				t.Error("the attempt does not end")
			}
			if !slices.Contains(reasons, got) {
				t.Errorf("the result is %s", got)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("it allocated %d MiB", grown>>20)
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		addr := serve(t, answeringForever("+OK\r\n"))
		if got := Once(t.Context(), aTarget(addr, 7, "seven"), loopback); got == Stored && testing.Verbose() {
			t.Log("it pretends to store the document, which the mount brings")
		}
	})
}

// start runs a Broadcaster until the test ends.
func start(t *testing.T) *Broadcaster {
	t.Helper()
	b := New(Options{Rules: loopback, Changed: func(types.NamespacedName) {}, Log: logr.Discard()})
	var running sync.WaitGroup
	running.Go(func() { _ = b.Start(t.Context()) })
	t.Cleanup(running.Wait)
	return b
}

// TestSilentServersDelayNoOther: a tenant has many FlagCaches whose servers never answer.
func TestSilentServersDelayNoOther(t *testing.T) {
	server, black := redistest.Start(t), serve(t, silent)
	b := start(t)
	for n := range 50 {
		target := aTarget(black, 7, "seven")
		target.FlagCache = types.NamespacedName{Namespace: "hostile", Name: fmt.Sprint(n)}
		b.Watch(target.FlagCache, target)
	}
	target := aTarget(server.Addr, 7, "seven")
	b.Watch(target.FlagCache, target)
	redistest.Eventually(t, 30*time.Second, "the document was not written", func() bool {
		last, known := b.Last(target.FlagCache)
		return known && last.Reason == Stored
	})
	done := 0
	for n := range 50 {
		if _, known := b.Last(types.NamespacedName{Namespace: "hostile", Name: fmt.Sprint(n)}); known {
			done++
		}
	}
	if done > 25 {
		t.Errorf("it waited for %d of 50 silent servers", done)
	}
}

// TestRedisThatReturnsGetsTheLastDocument: changes while it was down are not lost, and the last
// one is written once.
func TestRedisThatReturnsGetsTheLastDocument(t *testing.T) {
	server := redistest.Start(t)
	b := start(t)
	server.Kill()
	for n := range int64(5) {
		target := aTarget(server.Addr, n+1, fmt.Sprint(n+1))
		b.Watch(target.FlagCache, target)
	}
	key := aTarget("", 0, "").FlagCache
	redistest.Eventually(t, 30*time.Second, "the failure was not reported", func() bool {
		last, known := b.Last(key)
		return known && last.Reason != Stored
	})
	server.Restart()
	redistest.Eventually(t, 60*time.Second, "the document was not written", func() bool {
		last, _ := b.Last(key)
		return last.Reason == Stored && last.Number == 5
	})
	if number, document := stored(t, server); number != 5 || document != "5" {
		t.Errorf("Redis has number %d, %q", number, document)
	}
}

func TestFailedWritesAreRepeatedWithBackOff(t *testing.T) {
	var got []time.Duration
	for count := range 12 {
		got = append(got, next(Target{}, Result{Reason: "TimedOut"}, count+1))
	}
	if got[0] != minInterval || got[1] != 2*minInterval || got[11] != maxInterval || !slices.IsSorted(got) {
		t.Errorf("the intervals are %v", got)
	}
	if next(Target{}, Result{Reason: Stored}, 1) != 0 {
		t.Error("a document that Redis has is written again")
	}
}
