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

// conn is a connection that notes its deadlines.
type conn struct {
	net.Conn
	listener    *Listener
	closed      sync.Once
	read, write deadline
	// idle is since when the connection waits for another request, in nanoseconds
	// from the listener's start, or busy.
	idle atomic.Int64
}

// busy is a connection that does not wait for another request.
const busy = 0

func (c *conn) setIdle(idle bool) {
	since := int64(busy)
	if idle {
		since = max(c.listener.now.Load(), busy+1)
	}
	c.idle.Store(since)
}

// isIdle says that the connection can make room for another. A request that
// comes in this very moment may be lost, as with any end of an idle connection.
func (c *conn) isIdle(now time.Duration) bool {
	since := c.idle.Load()
	return since != busy && now-time.Duration(since) >= idleEnough
}

// deadline is when reading or writing has to end, in nanoseconds from the
// listener's start, or one of the following.
type deadline struct{ due atomic.Int64 }

const (
	// none is no deadline.
	none = 0
	// passed is one of which the connection itself has been told.
	passed = -1
)

// longAgo is a deadline that ends what is being waited for.
var longAgo = time.Unix(1, 0)

// change notes a deadline. It returns what the connection itself must be told,
// which is nothing unless a deadline has passed.
func (d *deadline) change(t time.Time, l *Listener) (tell bool, what time.Time) {
	if t.IsZero() && d.due.Load() == none {
		return false, what
	}
	due := int64(none)
	if !t.IsZero() {
		due = int64(t.Sub(l.start))
		if due <= l.now.Load() {
			d.due.Store(passed)
			return true, longAgo
		}
	}
	return d.due.Swap(due) == passed, what
}

// overdue says, once, that a deadline has passed.
func (d *deadline) overdue(now time.Duration) bool {
	due := d.due.Load()
	return due > none && due <= int64(now) && d.due.CompareAndSwap(due, passed)
}

// look ends what is overdue. A connection that fails to be told is closed or
// about to be. One whose deadline is put off in the very moment in which it has
// passed may be ended all the same, as with a deadline of the connection's own.
func (c *conn) look(now time.Duration) {
	if c.read.overdue(now) {
		c.endReading()
	}
	if c.write.overdue(now) {
		_ = c.Conn.SetWriteDeadline(longAgo)
	}
}

// endReading counts as a deadline that has passed: the next one takes it back.
func (c *conn) endReading() {
	c.read.due.Store(passed)
	_ = c.Conn.SetReadDeadline(longAgo)
}

// SetReadDeadline notes when reading has to end.
func (c *conn) SetReadDeadline(t time.Time) error {
	if tell, what := c.read.change(t, c.listener); tell {
		return c.Conn.SetReadDeadline(what)
	}
	return nil
}

// SetWriteDeadline notes when writing has to end.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if tell, what := c.write.change(t, c.listener); tell {
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
