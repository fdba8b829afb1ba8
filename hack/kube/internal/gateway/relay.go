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

// Relay accepts connections and joins each with one that dial makes, until the
// context ends; then it closes what is open and returns nil. A connection for
// which dial fails is reset, so that the client sees a failure and not an end.
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

// Join copies both ways until both ends are done or the context is, and closes
// both connections. A half-closed connection stays half-open.
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

// transfer copies until the end of from and passes the end on. When from fails,
// to is reset, since its reader must not take the failure for the end.
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

// Reset closes a connection so that the other end sees a reset where the kind of
// connection allows it.
func Reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// prefetched is a connection over a Unix socket of which some bytes were read
// ahead.
type prefetched struct {
	net.Conn
	reader *bufio.Reader
}

func (p *prefetched) Read(b []byte) (int, error) { return p.reader.Read(b) }

func (p *prefetched) CloseWrite() error { return p.Conn.(*net.UnixConn).CloseWrite() }
