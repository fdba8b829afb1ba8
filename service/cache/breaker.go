// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// openDelay is the time without a reply after which the breaker opens, so that
// other operations need not wait.
const openDelay = 100 * time.Millisecond

// breaker is a circuit breaker for Redis. A failure opens it, and so does an
// operation without a reply for openDelay; a reply closes it. While it is open,
// Redis is only probed once per second (see Cache.probe).
type breaker struct {
	state prometheus.Gauge

	mu   sync.Mutex
	open bool
	// changed is closed and replaced when open changes.
	changed chan struct{}
}

func newBreaker(state prometheus.Gauge) *breaker {
	return &breaker{state: state, changed: make(chan struct{})}
}

// isOpen reports whether Redis must not be used.
func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// await waits until the breaker is in the given state. It returns false if ctx
// or the channel ended first.
func (b *breaker) await(ctx context.Context, open bool, or <-chan struct{}) bool {
	for {
		b.mu.Lock()
		now, flipped := b.open, b.changed
		b.mu.Unlock()
		if now == open {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-or:
			return false
		case <-flipped:
		}
	}
}

// set opens or closes the breaker.
func (b *breaker) set(open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setLocked(open)
}

// setLocked opens or closes the breaker; mu is held.
func (b *breaker) setLocked(open bool) {
	if b.open == open {
		return
	}
	b.open = open
	b.state.Set(map[bool]float64{true: 1, false: 0}[open])
	close(b.changed)
	b.changed = make(chan struct{})
}

// begin tracks one operation. finish must be called with whether Redis was
// unavailable.
func (b *breaker) begin() (finish func(unavailable bool)) {
	ended := false
	timer := time.AfterFunc(openDelay, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !ended {
			b.setLocked(true)
		}
	})
	return func(unavailable bool) {
		timer.Stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		ended = true
		b.setLocked(unavailable)
	}
}
