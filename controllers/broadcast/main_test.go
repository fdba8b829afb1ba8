// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package broadcast

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/envelope"
	"github.com/flagcache/flagcache/service/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	integrityKey = "0123456789abcdef0123456789abcdef"
	store        = "flagcache:shop/checkout"
	environment  = "production"
	slotKey      = "feature_flags:production"
)

// loopback opens the addresses of the servers of tests.
var loopback = &dial.Rules{Lists: func() *policy.Addresses {
	return &policy.Addresses{Allow: []policy.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
}}

// aTarget is a document for the server at an address.
func aTarget(addr string, number int64, document string) Target {
	sum := sha256.Sum256([]byte(document))
	return Target{
		FlagCache: types.NamespacedName{Namespace: "shop", Name: "checkout"}, Number: number, Digest: hex.EncodeToString(sum[:]), Store: store,
		Environments: []string{environment}, TTL: 5 * time.Minute, Key: secret.New(integrityKey), Redis: probe.Target{Addr: addr, Own: true},
		Compressed: observed.Compress([]byte(document)),
	}
}

// sealed is a value as whoever has a key writes it.
func sealed(key, store string, number int64, document string) []byte {
	return envelope.Sealer{Secret: []byte(key)}.Seal(slotKey, envelope.Entry{
		State: source.State{Store: store, Version: source.Version{Epoch: source.PublishedEpoch, Number: number}}, Data: []byte(document),
	})
}

// aPod returns the cache of a flag service with a key.
func aPod(t *testing.T, url, key string, changed func()) *cache.Cache {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := cache.New(cache.Options{
		Environment: environment, URL: url, KeyFile: file, TTL: 5 * time.Minute, MaxSize: 1 << 20, Connections: 4, DialTimeout: 2 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}, prometheus.NewRegistry())
	ready := make(chan struct{})
	first := sync.OnceFunc(func() { close(ready) })
	var running sync.WaitGroup
	running.Go(func() { c.Run(t.Context(), func() { first(); changed() }) })
	t.Cleanup(running.Wait)
	<-ready
	return c
}

// serve runs a server that handles connections, and returns its address.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	closed := false
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			if closed {
				_ = conn.Close()
			}
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		closed = true
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return listener.Addr().String()
}

// silent reads and never answers.
func silent(conn net.Conn) {
	buffer := make([]byte, 4096)
	for {
		if _, err := conn.Read(buffer); err != nil {
			return
		}
	}
}

// answering answers everything with a text.
func answering(text string) func(net.Conn) {
	return func(conn net.Conn) {
		buffer := make([]byte, 4096)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			if _, err := conn.Write([]byte(text)); err != nil {
				return
			}
		}
	}
}

// answeringForever sends a text again and again.
func answeringForever(text string) func(net.Conn) {
	return func(conn net.Conn) {
		data := bytes.Repeat([]byte(text), 1024)
		for {
			if _, err := conn.Write(data); err != nil {
				return
			}
		}
	}
}
