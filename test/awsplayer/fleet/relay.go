// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// relay is an endpoint: a stable address in front of changing servers.
type relay struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	targets []string // used round-robin
	next    int
	open    map[net.Conn]struct{}
	closed  bool
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

// port is the port that the relay listens on.
func (r *relay) port() int { return r.listener.Addr().(*net.TCPAddr).Port }

// setTargets sets the servers for new connections. Open connections stay.
func (r *relay) setTargets(to ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets = to
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.Close()
	}
}

// close closes the relay and waits until all its goroutines have ended.
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
		forward := func(to, from net.Conn) {
			defer end()
			_, _ = io.Copy(to, from) // either side may disconnect at any time
		}
		r.running.Go(func() { forward(server, client) })
		r.running.Go(func() { forward(client, server) })
	}
}

// target is the server for the next connection; without servers it is an address that
// refuses connections.
func (r *relay) target() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.targets) == 0 {
		return "127.0.0.1:0"
	}
	r.next++
	return r.targets[r.next%len(r.targets)]
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
