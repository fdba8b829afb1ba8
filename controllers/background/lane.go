// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package background

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// lane limits how much runs at the same time. The FlagCaches of one namespace use at most half
// of it.
type lane struct {
	timeout time.Duration
	slots   *semaphore.Weighted
	// share is how many slots a namespace uses at most.
	share int64

	mu sync.Mutex
	// shares of the namespaces that use the lane or wait for it.
	shares map[string]*share
}

// share is the part of a lane that one namespace may use.
type share struct {
	slots *semaphore.Weighted
	users int
}

func newLane(slots int64, timeout time.Duration) *lane {
	return &lane{timeout: timeout, slots: semaphore.NewWeighted(slots), share: max(1, slots/2), shares: map[string]*share{}}
}

// acquire waits for a slot, first for one of the namespace's own, so that what waits
// longer because its namespace uses its share does not delay others.
func (l *lane) acquire(ctx context.Context, namespace string) (release func(), err error) {
	own := l.join(namespace)
	if err := own.slots.Acquire(ctx, 1); err != nil {
		l.leave(namespace)
		return nil, fmt.Errorf("waiting for others of the namespace: %w", err)
	}
	if err := l.slots.Acquire(ctx, 1); err != nil {
		own.slots.Release(1)
		l.leave(namespace)
		return nil, fmt.Errorf("waiting for others: %w", err)
	}
	return func() {
		l.slots.Release(1)
		own.slots.Release(1)
		l.leave(namespace)
	}, nil
}

func (l *lane) join(namespace string) *share {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shares[namespace]
	if s == nil {
		s = &share{slots: semaphore.NewWeighted(l.share)}
		l.shares[namespace] = s
	}
	s.users++
	return s
}

func (l *lane) leave(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shares[namespace]
	if s.users--; s.users == 0 {
		delete(l.shares, namespace)
	}
}
