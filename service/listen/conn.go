// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection that records its deadlines.
type conn struct {
	net.Conn
	listener    *Listener
	closed      sync.Once
	read, write deadline
	// idle is when the connection became idle, in nanoseconds since the listener's
	// start, or busy.
	idle   atomic.Int64
	unread unread
}

// busy is the value of idle for a connection that is not idle.
const busy = 0

func (c *conn) setIdle(idle bool) {
	since := int64(busy)
	if idle {
		since = max(c.listener.now.Load(), busy+1)
	}
	c.idle.Store(since)
}

// isIdle reports whether the connection can be closed for another. A request
// that arrives at the same time may be lost, as whenever an idle connection is
// closed.
func (c *conn) isIdle(now time.Duration) bool {
	since := c.idle.Load()
	return since != busy && now-time.Duration(since) >= minIdle
}

// deadline is a read or write deadline in nanoseconds since the listener's
// start, or one of the following.
type deadline struct{ due atomic.Int64 }

const (
	// none means no deadline.
	none = 0
	// expired means that the deadline was set on the connection itself.
	expired = -1
)

// longAgo is a deadline that ends pending reads and writes.
var longAgo = time.Unix(1, 0)

// change records a deadline. It returns whether a deadline must be set on the
// connection itself, and which, because one has expired.
func (d *deadline) change(t time.Time, l *Listener) (apply bool, at time.Time) {
	if t.IsZero() && d.due.Load() == none {
		return false, at
	}
	due := int64(none)
	if !t.IsZero() {
		due = int64(t.Sub(l.start))
		if due <= l.now.Load() {
			d.due.Store(expired)
			return true, longAgo
		}
	}
	return d.due.Swap(due) == expired, at
}

// expire reports once that a deadline has passed.
func (d *deadline) expire(now time.Duration) bool {
	due := d.due.Load()
	return due > none && due <= int64(now) && d.due.CompareAndSwap(due, expired)
}

// sweep applies the deadlines that have passed. Setting a deadline only fails
// on a closed connection. A deadline that is extended at the moment at which it
// passes may still be applied, as with the connection's own deadlines.
func (c *conn) sweep(now time.Duration) {
	if c.read.expire(now) {
		c.endReading()
	}
	if c.write.expire(now) {
		_ = c.Conn.SetWriteDeadline(longAgo)
	}
}

// endReading ends pending reads like an expired deadline, until the next one is
// set.
func (c *conn) endReading() {
	c.read.due.Store(expired)
	_ = c.Conn.SetReadDeadline(longAgo)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if apply, at := c.read.change(t, c.listener); apply {
		return c.Conn.SetReadDeadline(at)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if apply, at := c.write.change(t, c.listener); apply {
		return c.Conn.SetWriteDeadline(at)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite closes the writing side, so that the peer can read a response
// although its request was not read completely.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection and frees its slot, once its client has received what was
// written.
func (c *conn) Close() error {
	drains := false
	c.closed.Do(func() {
		if drains = c.drain(); !drains {
			c.listener.remove(c)
			c.listener.release()
			c.forget()
		}
	})
	if drains || c.drainsBy() != 0 {
		return nil
	}
	return c.Conn.Close()
}
