// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package listen bounds connections in number and in time, cheaply.
//
// A server that bounds all its reading and writing sets five deadlines for each
// request, and each is a timer of the runtime: a tenth of what a small request
// costs. Nearly all of them are replaced before they are due. So a Listener's
// connections only note their deadlines, and a look at all of them, some times a
// second, ends what is overdue.
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
	// Tick is how late a deadline may be.
	Tick = 100 * time.Millisecond
	// idleEnough is how long a connection must have been idle to make room.
	idleEnough = time.Second
)

// Listener accepts connections. Their deadlines pass only while Run runs.
type Listener struct {
	net.Listener
	// places has an element for each connection; nil is no limit.
	places chan struct{}
	closed chan struct{}
	close  sync.Once
	// start is what times are counted from, by the monotonic clock.
	start time.Time
	// now is the time of the last look.
	now atomic.Int64
	// waiting says that a connection waits for a place.
	waiting atomic.Bool

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// New returns a Listener with at most so many connections at a time; 0 is no
// limit. More wait, and those that have been idle for a while make room for them.
func New(inner net.Listener, most int) *Listener {
	l := &Listener{Listener: inner, closed: make(chan struct{}), start: time.Now(), conns: map[*conn]struct{}{}}
	if most > 0 {
		l.places = make(chan struct{}, most)
	}
	return l
}

// Run ends what is overdue until ctx is done.
func (l *Listener) Run(ctx context.Context) {
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.look(time.Since(l.start))
		}
	}
}

func (l *Listener) look(now time.Duration) {
	l.now.Store(int64(now))
	l.mu.Lock()
	defer l.mu.Unlock()
	needed := l.waiting.Load()
	for c := range l.conns {
		c.look(now)
		if needed && c.isIdle(now) {
			c.endReading()
		}
	}
}

// Idle notes whether an accepted connection waits for another request.
func (l *Listener) Idle(accepted net.Conn, idle bool) {
	if c, ok := accepted.(*conn); ok {
		c.setIdle(idle)
	}
}

// Accept waits for a connection, and for a place if all are taken.
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.enter() {
		return nil, errors.Join(net.ErrClosed, inner.Close())
	}
	c := &conn{Conn: inner, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c, nil
}

// Close stops accepting. Connections go on.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// enter takes a place; it is false when the listener is closed.
func (l *Listener) enter() bool {
	if l.places == nil {
		return true
	}
	select {
	case l.places <- struct{}{}:
		return true
	default:
	}
	l.waiting.Store(true)
	defer l.waiting.Store(false)
	select {
	case <-l.closed:
		return false
	case l.places <- struct{}{}:
		return true
	}
}

func (l *Listener) leave() {
	if l.places != nil {
		<-l.places
	}
}

func (l *Listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}
