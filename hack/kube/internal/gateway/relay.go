// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
)

// Relay accepts connections and connects each to the result of dial, until the context
// ends; then it closes open connections and returns nil. A connection for which dial
// fails is reset, so that the client does not take it for a normal end.
func Relay(ctx context.Context, listener net.Listener, dial func(context.Context) (net.Conn, error)) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		client, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		connections.Go(func() {
			server, err := dial(ctx)
			if err != nil {
				Reset(client)
				return
			}
			Join(ctx, client, server)
		})
	}
}

// Join copies data in both directions until both are done or the context ends, and closes
// both connections. It preserves half-closed connections.
func Join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	defer a.Close()
	defer b.Close()
	var copies sync.WaitGroup
	copies.Go(func() { transfer(a, b) })
	copies.Go(func() { transfer(b, a) })
	copies.Wait()
}

// transfer copies until the end of from and then closes to for writing. If from fails, to
// is reset, so that its reader does not take the failure for a normal end.
func transfer(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		Reset(to)
		Reset(from)
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	to.Close()
}

// Reset closes a connection with a reset, if the kind of connection supports it.
func Reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// prefetched is a connection over a Unix socket with data that was already read from it.
type prefetched struct {
	net.Conn
	reader *bufio.Reader
}

func (p *prefetched) Read(b []byte) (int, error) { return p.reader.Read(b) }

func (p *prefetched) CloseWrite() error { return p.Conn.(*net.UnixConn).CloseWrite() }
