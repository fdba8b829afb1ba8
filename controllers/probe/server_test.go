// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"net"
	"sync"
	"testing"
	"time"
)

// serve runs a TCP server that handles each connection in its own goroutine and closes it
// afterwards. It stops, with its handlers, when the test ends.
func serve(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l := listen(t)
	var (
		mu       sync.Mutex
		open     = map[net.Conn]struct{}{}
		closed   bool
		handlers sync.WaitGroup
	)
	handlers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed {
				_ = conn.Close()
			}
			open[conn] = struct{}{}
			mu.Unlock()
			handlers.Go(func() {
				handle(conn)
				_ = conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		closed = true
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		handlers.Wait()
	})
	return l.Addr().String()
}

// blackHole accepts and reads, and never responds.
func blackHole(t *testing.T) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) { drain(conn) })
}

// drain reads until the connection is closed.
func drain(conn net.Conn) {
	var b [512]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

// scripted responds to the first byte of each connection with the whole script.
func scripted(t *testing.T, script string) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		if _, err := bufio.NewReader(conn).ReadByte(); err != nil {
			return
		}
		if _, err := conn.Write([]byte(script)); err != nil {
			return
		}
		drain(conn)
	})
}

// greetAndClose writes a greeting to each connection and closes it.
func greetAndClose(t *testing.T, greeting string) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) { _, _ = conn.Write([]byte(greeting)) })
}

// trickle sends an endless reply, a byte at a time, so that no single read times out.
func trickle(t *testing.T) (addr string) {
	t.Helper()
	return serve(t, func(conn net.Conn) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for reply := []byte("+"); ; reply = []byte("a") {
			if _, err := conn.Write(reply); err != nil {
				return
			}
			<-tick.C
		}
	})
}
