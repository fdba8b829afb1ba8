// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// sendBuffer is the size of the kernel's send buffer of a connection in bytes. Linux
	// doubles it for its own bookkeeping. Otherwise it would grow to several MiB.
	sendBuffer = 64 << 10
	// largeWrite is the size from which a write is settled when it ends, rather than by
	// the next sweep.
	largeWrite = 16 << 10
	// maxStall is how long a client may receive nothing while the budget is strained.
	maxStall = time.Second
	// maxDrain is how long a closed connection remains for the rest of its response.
	maxDrain = 5 * time.Second
)

// errSlowReader is the error of a write to a client that does not receive its responses.
var errSlowReader = errors.New("the client does not receive its responses")

// unread counts the bytes that the client of a connection has not received.
type unread struct {
	mu sync.Mutex
	// bytes includes pending, which are those of writes in progress.
	bytes, pending int64
	// progress is when some were received, or the first was written.
	progress time.Duration
	// drainBy is when a closed connection that drains is reset; 0 if it does not drain.
	drainBy time.Duration
	// forgotten means that only writes in progress count, because it was closed.
	forgotten bool
}

// limit prepares an accepted connection: its send buffer bounds what the kernel holds.
func limit(c net.Conn) {
	if tcp, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
		// It only fails on a closed connection.
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
}

// send writes p and counts it.
func (c *conn) send(p []byte) (int, error) {
	budget := c.listener.Budget
	if budget == nil {
		return c.Conn.Write(p)
	}
	if budget.isExceeded() && c.settle() > 0 {
		budget.slow.Inc()
		c.reset()
		return 0, errSlowReader
	}
	c.begin(int64(len(p)))
	n, err := c.Conn.Write(p)
	c.finish(int64(len(p)), int64(n))
	if len(p) >= largeWrite {
		c.settle()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// The response is incomplete anyway; its rest must not remain in the kernel.
		c.discardOnClose()
	}
	return n, err
}

func (c *conn) begin(bytes int64) {
	c.listener.Budget.bytes.Add(bytes)
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	if c.unread.bytes == 0 {
		c.unread.progress = time.Duration(c.listener.now.Load())
	}
	c.unread.bytes += bytes
	c.unread.pending += bytes
}

func (c *conn) finish(bytes, written int64) {
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	c.unread.pending -= bytes
	left := c.unread.bytes - (bytes - written)
	if c.unread.forgotten {
		left = c.unread.pending
	}
	c.reduce(left)
}

// reduce lowers the count; unread.mu is held.
func (c *conn) reduce(to int64) {
	to = max(0, to)
	if to < c.unread.bytes {
		c.listener.Budget.bytes.Add(to - c.unread.bytes)
		c.unread.bytes = to
	}
}

// settle subtracts what the client has received and returns the rest. What a write in
// progress has passed to the kernel is counted twice.
func (c *conn) settle() int64 {
	if c.listener.Budget == nil {
		return 0
	}
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	if c.unread.bytes == 0 {
		return 0
	}
	if left := c.unread.pending + queued(c.Conn); left < c.unread.bytes {
		c.reduce(left)
		c.unread.progress = time.Duration(c.listener.now.Load())
	}
	return c.unread.bytes
}

// isStalled reports whether the client has received nothing for too long.
func (c *conn) isStalled(now time.Duration) bool {
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	return c.unread.bytes > 0 && now-c.unread.progress >= maxStall
}

// forget stops counting the connection.
func (c *conn) forget() {
	if c.listener.Budget == nil {
		return
	}
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	c.unread.forgotten = true
	c.reduce(c.unread.pending)
}

// sweepUnread settles the connection, and resets it if the budget is strained and its
// client receives nothing. It returns true if a closed connection has ended.
func (c *conn) sweepUnread(now time.Duration) (ended bool) {
	budget := c.listener.Budget
	if budget == nil {
		return false
	}
	left := c.settle()
	switch drainBy := c.drainsBy(); {
	case drainBy != 0 && left == 0:
		_ = c.Conn.Close()
		return true
	case drainBy != 0 && now >= drainBy:
		c.reset()
		return true
	case left > 0 && budget.isStrained() && c.isStalled(now):
		budget.slow.Inc()
		c.reset()
		return drainBy != 0
	}
	return false
}

// drainsBy returns when a closed connection is reset; 0 if it is not closed.
func (c *conn) drainsBy() time.Duration {
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	return c.unread.drainBy
}

// drain closes the connection once its client has received everything: otherwise the
// kernel would hold the rest where nothing counts it. It returns false if there is no
// rest, or no sweep.
func (c *conn) drain() bool {
	if c.settle() == 0 {
		return false
	}
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	// The deadline ends reads and writes of the server, and not the kernel's.
	if !c.listener.running || c.CloseWrite() != nil || c.Conn.SetDeadline(longAgo) != nil {
		return false
	}
	c.unread.mu.Lock()
	defer c.unread.mu.Unlock()
	c.unread.drainBy = time.Duration(c.listener.now.Load()) + maxDrain
	return true
}

// reset closes the connection and discards what the kernel holds. The server finds it
// closed.
func (c *conn) reset() {
	c.discardOnClose()
	_ = c.Conn.Close()
}

func (c *conn) discardOnClose() {
	if tcp, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		// It only fails on a closed connection.
		_ = tcp.SetLinger(0)
	}
}

// queued returns the bytes that the kernel holds for the peer, 0 if it is unknown.
func queued(c net.Conn) int64 {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	bytes := 0
	if raw.Control(func(fd uintptr) { bytes = unacknowledged(fd) }) != nil {
		return 0
	}
	return int64(bytes)
}
