// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// patience is how long Redis may take to answer before others are spared the wait.
const patience = 100 * time.Millisecond

// breaker says whether it is worth asking Redis. A failure opens it, and so does
// an operation without an answer for patience; an answer closes it. While it is
// open, all that asks Redis is a probe a second (see Cache.probe).
type breaker struct {
	state prometheus.Gauge

	mu   sync.Mutex
	open bool
	// flipped is closed, and made anew, when open changes.
	flipped chan struct{}
}

func newBreaker(state prometheus.Gauge) *breaker {
	return &breaker{state: state, flipped: make(chan struct{})}
}

// isOpen says that Redis is not to be asked.
func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// await waits until the breaker is open, or until it is not; it is false if ctx or
// the channel ended first.
func (b *breaker) await(ctx context.Context, open bool, or <-chan struct{}) bool {
	for {
		b.mu.Lock()
		now, flipped := b.open, b.flipped
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
	b.flip(open)
}

func (b *breaker) flip(open bool) {
	if b.open == open {
		return
	}
	b.open = open
	b.state.Set(map[bool]float64{true: 1, false: 0}[open])
	close(b.flipped)
	b.flipped = make(chan struct{})
}

// begin follows one operation. Finish must be called with whether Redis was in
// trouble.
func (b *breaker) begin() (finish func(trouble bool)) {
	ended := false
	timer := time.AfterFunc(patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !ended {
			b.flip(true)
		}
	})
	return func(trouble bool) {
		timer.Stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		ended = true
		b.flip(trouble)
	}
}
