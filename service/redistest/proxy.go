// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package redistest

import (
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server that can be another one for the next
// connection, as behind a name, and can spoil what the server answers.
type Proxy struct {
	// Addr is host:port.
	Addr string

	t        testing.TB
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	to    string
	spoil func(sent int, part []byte) (pass []byte, goOn bool)
	open  map[net.Conn]bool
	dials int
}

// StartProxy starts a proxy to an address. It ends with the test.
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

// URL is redis:// with the address.
func (p *Proxy) URL() string { return "redis://" + p.Addr }

// Point makes new connections go to another address. Those that are open stay.
func (p *Proxy) Point(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// Spoil changes what servers answer: it gets how many bytes of the connection's
// answers came before, and a part of them, and returns what to pass on and whether
// to go on. Nil ends that.
func (p *Proxy) Spoil(spoil func(sent int, part []byte) (pass []byte, goOn bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = spoil
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// Dials is how many connections were opened so far.
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
		p.running.Go(func() { defer end(); p.pass(client, server, p.answers()) })
	}
}

// answers returns what spoils the answers of one connection.
func (p *Proxy) answers() func(part []byte) ([]byte, bool) {
	sent := 0
	return func(part []byte) ([]byte, bool) {
		p.mu.Lock()
		spoil := p.spoil
		p.mu.Unlock()
		before := sent
		sent += len(part)
		if spoil == nil {
			return part, true
		}
		return spoil(before, part)
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
