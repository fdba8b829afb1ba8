// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package redistest

import (
	"net"
	"sync"
	"testing"
)

// Proxy forwards connections to a server, which can be replaced for new
// connections, like a DNS name, and can corrupt the server's replies.
type Proxy struct {
	// Addr is host:port.
	Addr string

	t        testing.TB
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	to      string
	corrupt func(sent int, part []byte) (pass []byte, goOn bool)
	open    map[net.Conn]bool
	dials   int
}

// StartProxy starts a proxy to an address. It is closed with the test.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening for a proxy: %v", err)
	}
	p := &Proxy{Addr: listener.Addr().String(), t: t, listener: listener, to: to, open: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// URL returns redis:// with the address.
func (p *Proxy) URL() string { return "redis://" + p.Addr }

// Point directs new connections to another address. Open connections are kept.
func (p *Proxy) Point(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// Corrupt sets a function that changes the servers' replies: it receives the
// number of bytes already sent on the connection and the next part, and returns
// the bytes to forward and whether to keep the connection. Nil removes it.
func (p *Proxy) Corrupt(corrupt func(sent int, part []byte) (pass []byte, goOn bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.corrupt = corrupt
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// Dials returns the number of connections opened so far.
func (p *Proxy) Dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.dials++
		p.mu.Unlock()
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.track(client, true)
		p.track(server, true)
		end := sync.OnceFunc(func() { p.track(client, false); p.track(server, false) })
		p.running.Go(func() { defer end(); p.pass(server, client, nil) })
		p.running.Go(func() { defer end(); p.pass(client, server, p.replies()) })
	}
}

// replies returns the function that changes the replies of one connection.
func (p *Proxy) replies() func(part []byte) ([]byte, bool) {
	sent := 0
	return func(part []byte) ([]byte, bool) {
		p.mu.Lock()
		corrupt := p.corrupt
		p.mu.Unlock()
		before := sent
		sent += len(part)
		if corrupt == nil {
			return part, true
		}
		return corrupt(before, part)
	}
}

func (p *Proxy) track(conn net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if open {
		p.open[conn] = true
		return
	}
	_ = conn.Close()
	delete(p.open, conn)
}

func (p *Proxy) pass(to, from net.Conn, through func([]byte) ([]byte, bool)) {
	buffer := make([]byte, 32<<10)
	for goOn := true; goOn; {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		part := buffer[:n]
		if through != nil {
			part, goOn = through(part)
		}
		if _, err := to.Write(part); err != nil {
			return
		}
	}
}
