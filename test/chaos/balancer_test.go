// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer hands connections to the ready instances in turn, as a Service does:
// it knows of readiness a little late, and nothing of requests.
type balancer struct {
	url      string
	backends []*backend
	turn     atomic.Int64
	tasks    sync.WaitGroup
	stop     chan struct{}
	listener net.Listener
}

type backend struct {
	*instance
	ready atomic.Bool
}

// readinessInterval is how often the balancer checks readiness.
const readinessInterval = 100 * time.Millisecond

func startBalancer(t testing.TB, services []*instance) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{url: "http://" + listener.Addr().String(), stop: make(chan struct{}), listener: listener}
	for _, service := range services {
		b.backends = append(b.backends, &backend{instance: service})
	}
	b.check()
	b.tasks.Go(b.keepLooking)
	b.tasks.Go(b.accept)
	t.Cleanup(func() {
		close(b.stop)
		_ = listener.Close()
		b.tasks.Wait()
	})
	return b
}

func (b *balancer) check() {
	for _, backend := range b.backends {
		backend.ready.Store(backend.instance.ready())
	}
}

func (b *balancer) keepLooking() {
	tick := time.NewTicker(readinessInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
			b.check()
		}
	}
}

func (b *balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.tasks.Go(func() { b.relay(client) })
	}
}

// relay carries bytes until one side has closed.
func (b *balancer) relay(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", b.next())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
	copying.Wait()
}

// next is the address of the ready instance whose turn it is.
func (b *balancer) next() string {
	for range b.backends {
		backend := b.backends[b.turn.Add(1)%int64(len(b.backends))]
		if backend.ready.Load() {
			return strings.TrimPrefix(backend.ofrep, "http://")
		}
	}
	return ""
}
