// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"net"
	"sync"
	"time"
)

// conn is a connection that notes its deadlines.
type conn struct {
	net.Conn
	listener *Listener
	closed   sync.Once

	mu          sync.Mutex
	read, write deadline
}

// deadline is when reading or writing has to end.
type deadline struct {
	// due is counted from the listener's start; there is none unless set.
	due time.Duration
	set bool
	// passed says that the connection itself has been told so.
	passed bool
}

// longAgo is a deadline that ends what is being waited for.
var longAgo = time.Unix(1, 0)

// change notes a deadline. It returns what the connection itself must be told,
// which is nothing unless a deadline has passed.
func (d *deadline) change(t time.Time, start time.Time, now time.Duration) (tell bool, what time.Time) {
	d.set = !t.IsZero()
	d.due = t.Sub(start)
	passed := d.set && d.due <= now
	switch {
	case passed:
		what = longAgo
	case !d.passed:
		return false, what
	}
	d.passed = passed
	return true, what
}

// overdue says, once, that a deadline has passed.
func (d *deadline) overdue(now time.Duration) bool {
	if !d.set || d.passed || d.due > now {
		return false
	}
	d.passed = true
	return true
}

// look ends what is overdue. A connection that fails to be told is closed or
// about to be.
func (c *conn) look(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read.overdue(now) {
		_ = c.Conn.SetReadDeadline(longAgo)
	}
	if c.write.overdue(now) {
		_ = c.Conn.SetWriteDeadline(longAgo)
	}
}

// SetReadDeadline notes when reading has to end.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tell, what := c.read.change(t, c.listener.start, time.Duration(c.listener.now.Load())); tell {
		return c.Conn.SetReadDeadline(what)
	}
	return nil
}

// SetWriteDeadline notes when writing has to end.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tell, what := c.write.change(t, c.listener.start, time.Duration(c.listener.now.Load())); tell {
		return c.Conn.SetWriteDeadline(what)
	}
	return nil
}

// SetDeadline notes when both have to end.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite says that nothing more will be written, so that the other side can
// read an answer although what it sent was not read to its end.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close gives the connection's place to another.
func (c *conn) Close() error {
	c.closed.Do(func() {
		c.listener.forget(c)
		c.listener.leave()
	})
	return c.Conn.Close()
}
