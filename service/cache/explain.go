// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Some failures of a connection read like a broken network, although the cause is
// known: they are explained where they occur.
var (
	errMaxClients = errors.New("the server refuses further connections: max number of clients reached")
	errNoTLS      = errors.New("the server does not answer the TLS handshake: does it use TLS on this port?")
	errPlain      = errors.New("the server closed the connection without a reply: does it require TLS on this port?")
)

// refusalTimeout limits reading why a server has closed a connection. The reason
// arrived before it was closed.
const refusalTimeout = 50 * time.Millisecond

// secure returns a TLS connection on a plain one, which it closes if it fails.
func secure(ctx context.Context, plain net.Conn, addr string, config *tls.Config) (net.Conn, error) {
	config = config.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		config.ServerName = host
	}
	conn := tls.Client(plain, config)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return conn, nil
	}
	_ = plain.Close()
	var notTLS tls.RecordHeaderError
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &notTLS) {
		return nil, fmt.Errorf("%w (%w)", errNoTLS, err)
	}
	return nil, fmt.Errorf("TLS handshake: %w", err)
}

// Write implements net.Conn. A server that has reached its maximum number of
// clients says so and closes the connection, which the client only notices when it
// writes.
func (c *guardedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && isClosed(err) && (c.full || !c.answered && c.refused()) {
		err = errMaxClients
	}
	return n, err
}

// refused reports whether the server has refused the connection because of its
// maximum number of clients.
func (c *guardedConn) refused() bool {
	reply := make([]byte, 64)
	if err := c.SetReadDeadline(time.Now().Add(refusalTimeout)); err != nil {
		return false
	}
	n, err := io.ReadAtLeast(c.Conn, reply, len(maxClientsReply))
	return err == nil && strings.HasPrefix(string(reply[:n]), maxClientsReply)
}

const maxClientsReply = "-ERR max number of clients reached"

// explained returns a better error for a failed read.
func (c *guardedConn) explained(err error) error {
	switch {
	case !isClosed(err):
		return err
	case c.full:
		return errMaxClients
	case !c.answered && c.plain:
		return fmt.Errorf("%w (%w)", errPlain, err)
	default:
		return err
	}
}

// isClosed reports whether the other side has closed the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
