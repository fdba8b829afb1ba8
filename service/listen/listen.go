// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package listen limits the number of connections and the bytes of responses in flight,
// and enforces deadlines at low cost.
//
// A server with timeouts for all reads and writes sets five deadlines per
// request, each a timer of the runtime: a tenth of the cost of a small request.
// Nearly all of them are replaced before they expire. So a Listener's
// connections only record their deadlines, and a periodic sweep over all
// connections applies those that have passed.
//
// What clients do not read costs memory, in the process while a write waits, else in the
// kernel. Connections count both in a Budget; the sweep finds out what clients have
// received.
package listen

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Tick is the interval of the sweep, and the maximum delay of a deadline.
	Tick = 100 * time.Millisecond
	// minIdle is the time after which an idle connection may be closed for another.
	minIdle = time.Second
)

// Listener accepts connections. Their deadlines are only enforced while Run
// runs.
type Listener struct {
	net.Listener
	// Refuse is the form of the responses to requests that cannot be read. Without it
	// they are plain text. It must be set before the listener is used.
	Refuse Refusal
	// Budget limits the bytes of responses in flight; nil is no limit. It must be set
	// before the listener is used.
	Budget *Budget
	// slots has an element for each connection; nil is no limit.
	slots  chan struct{}
	closed chan struct{}
	close  sync.Once
	// start is the origin of all times, on the monotonic clock.
	start time.Time
	// now is the time of the last sweep.
	now atomic.Int64
	// waiting means that a connection waits for a slot.
	waiting atomic.Bool

	mu    sync.Mutex
	conns map[*conn]struct{}
	// running means that Run runs, which ends draining connections.
	running bool
}

// New returns a Listener with the given maximum number of connections; 0 is no
// limit. Further connections wait, and idle ones are closed for them.
func New(inner net.Listener, maxConnections int) *Listener {
	l := &Listener{Listener: inner, closed: make(chan struct{}), start: time.Now(), conns: map[*conn]struct{}{}}
	if maxConnections > 0 {
		l.slots = make(chan struct{}, maxConnections)
	}
	return l
}

// Run enforces deadlines until ctx is done.
func (l *Listener) Run(ctx context.Context) {
	l.setRunning(true)
	defer l.endDraining()
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.sweep(time.Since(l.start))
		}
	}
}

func (l *Listener) sweep(now time.Duration) {
	l.now.Store(int64(now))
	l.mu.Lock()
	defer l.mu.Unlock()
	needed := l.waiting.Load()
	for c := range l.conns {
		c.sweep(now)
		if needed && c.isIdle(now) {
			c.endReading()
		}
		if c.sweepUnread(now) {
			l.drop(c)
		}
	}
}

func (l *Listener) setRunning(running bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = running
}

// endDraining closes the connections that are draining.
func (l *Listener) endDraining() {
	l.setRunning(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.drainsBy() != 0 {
			_ = c.Conn.Close()
			l.drop(c)
		}
	}
}

// drop forgets a connection that has drained; mu is held.
func (l *Listener) drop(c *conn) {
	delete(l.conns, c)
	l.release()
	c.forget()
}

// Idle records whether an accepted connection is idle.
func (l *Listener) Idle(accepted net.Conn, idle bool) {
	if c, ok := accepted.(*conn); ok {
		c.setIdle(idle)
	}
}

// Accept waits for a connection, and for a free slot.
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.acquire() {
		return nil, errors.Join(net.ErrClosed, inner.Close())
	}
	limit(inner)
	c := &conn{Conn: inner, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c, nil
}

// Close stops accepting. Accepted connections remain open.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// acquire takes a slot. It returns false if the listener is closed.
func (l *Listener) acquire() bool {
	if l.slots == nil {
		return true
	}
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	l.waiting.Store(true)
	defer l.waiting.Store(false)
	select {
	case <-l.closed:
		return false
	case l.slots <- struct{}{}:
		return true
	}
}

func (l *Listener) release() {
	if l.slots != nil {
		<-l.slots
	}
}

func (l *Listener) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}
