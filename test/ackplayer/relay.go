// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// relay is an endpoint: an address that stays while the servers behind it change.
type relay struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	to     []string // taken in turn
	next   int
	open   map[net.Conn]struct{}
	closed bool
}

func newRelay(host string) (*relay, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("opening an endpoint: %w", err)
	}
	r := &relay{listener: listener, open: map[net.Conn]struct{}{}}
	r.running.Go(r.accept)
	return r, nil
}

// port is where it listens.
func (r *relay) port() int { return r.listener.Addr().(*net.TCPAddr).Port }

// point has new connections go to other servers. Those that are open stay.
func (r *relay) point(to ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.Close()
	}
}

// close ends the relay and returns when nothing of it runs.
func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cut()
	r.running.Wait()
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target())
		if err != nil {
			_ = client.Close()
			continue
		}
		r.track(client, server)
		end := sync.OnceFunc(func() { r.drop(client, server) })
		pass := func(to, from net.Conn) {
			defer end()
			_, _ = io.Copy(to, from) // either end may go at any time
		}
		r.running.Go(func() { pass(server, client) })
		r.running.Go(func() { pass(client, server) })
	}
}

// target is the server of the next connection; without servers, one that refuses.
func (r *relay) target() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.to) == 0 {
		return "127.0.0.1:0"
	}
	r.next++
	return r.to[r.next%len(r.to)]
}

func (r *relay) track(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		if r.closed {
			_ = conn.Close()
			continue
		}
		r.open[conn] = struct{}{}
	}
}

func (r *relay) drop(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(r.open, conn)
	}
}
