// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package background does something for each FlagCache beside the reconciler: it samples what
// others report, or writes to what others run. What they run may be slow or hostile.
//
// FlagCaches whose servers answer quickly never wait for those whose servers do not, nor for more
// than a part of the FlagCaches of another namespace: there are two lanes, each with slots of its
// own, of which a namespace has at most half. What does not end within the timeout of the quick
// lane is repeated in the slow one.
package background

import (
	"context"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// MinInterval is that between two results of one FlagCache, whatever is requested.
	MinInterval = time.Second
	// paceOfNamespace between two samples of a namespace, on average: each costs requests to
	// the API server, which all namespaces share. It delays only who has many FlagCaches with
	// short intervals.
	paceOfNamespace = 250 * time.Millisecond
)

// Work is what to do, and when.
type Work[T, R any] struct {
	// Do does it for a target. Last is the result before, the zero value for the first.
	Do func(ctx context.Context, target T, last R) R
	// Next is how long after its start it is repeated; 0 is not before the target changes.
	// Count is how often it was done for the target.
	Next func(target T, last R, count int) time.Duration
	// Keeps reports whether the last result is about a changed target, too.
	Keeps func(before, after T) bool
	// Settle is how long it waits for a target of which the last result is not kept.
	Settle time.Duration
	// Notifies reports whether a result is reported that follows on another one.
	Notifies func(before, after R) bool
	// Changed is called after results that are reported. It must not block for long.
	Changed func(types.NamespacedName)
	// Concurrent is how much is done at the same time, half of it in the quick lane.
	Concurrent int64
	// QuickTimeout and SlowTimeout are those of the lanes.
	QuickTimeout, SlowTimeout time.Duration
}

// Runner does the work of the targets that are watched, one of each FlagCache, in the background.
// It is safe for concurrent use. A namespace is served at most four times a second on average.
type Runner[T, R any] struct {
	work        Work[T, R]
	quick, slow *lane

	mu      sync.Mutex
	watched map[types.NamespacedName]*watch[T, R]
	// sizes are how many are watched, by namespace.
	sizes map[string]int
	// parent of the watches' contexts, nil while it does not run.
	parent  context.Context
	running sync.WaitGroup
}

// watch is the work of one FlagCache.
type watch[T, R any] struct {
	key    types.NamespacedName
	target T
	stop   context.CancelFunc
	last   R
	known  bool
	// slow is whether it did not end quickly.
	slow bool
	// paused: there is no target.
	paused bool
	// settle is how long it waits before the first result.
	settle time.Duration
}

// New returns a Runner, which does nothing until it is started.
func New[T, R any](work Work[T, R]) *Runner[T, R] {
	return &Runner[T, R]{
		work: work, watched: map[types.NamespacedName]*watch[T, R]{}, sizes: map[string]int{},
		quick: newLane(work.Concurrent/2, work.QuickTimeout), slow: newLane(work.Concurrent/2, work.SlowTimeout),
	}
}

// Start works until ctx is done, and returns when all work has ended.
func (b *Runner[T, R]) Start(ctx context.Context) error {
	b.mu.Lock()
	b.parent = ctx
	for _, w := range b.watched {
		if !w.paused {
			b.run(w)
		}
	}
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.parent = nil
	b.mu.Unlock()
	b.running.Wait()
	return nil
}

// Watch starts or continues the work for a FlagCache. For a target that changed it is done
// immediately.
func (b *Runner[T, R]) Watch(key types.NamespacedName, target T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &watch[T, R]{key: key, target: target, stop: func() {}}
	if before := b.watched[key]; before != nil {
		switch {
		case before.paused:
		case reflect.DeepEqual(before.target, target):
			return
		case b.work.Keeps(before.target, target):
			w.last, w.known = before.last, before.known
		default:
			w.settle = b.work.Settle
		}
		w.slow = before.slow
		b.forget(key)
	}
	b.watched[key] = w
	b.sizes[key.Namespace]++
	b.run(w)
}

// Pause stops the work for a FlagCache, and remembers only whether it is slow.
func (b *Runner[T, R]) Pause(key types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.watched[key]
	if before == nil || before.paused {
		return
	}
	b.forget(key)
	if before.slow {
		b.watched[key] = &watch[T, R]{key: key, stop: func() {}, slow: true, paused: true}
		b.sizes[key.Namespace]++
	}
}

// Forget stops the work for a FlagCache, and remembers nothing of it.
func (b *Runner[T, R]) Forget(key types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(key)
}

func (b *Runner[T, R]) forget(key types.NamespacedName) {
	if w := b.watched[key]; w != nil {
		w.stop()
		delete(b.watched, key)
		if b.sizes[key.Namespace]--; b.sizes[key.Namespace] == 0 {
			delete(b.sizes, key.Namespace)
		}
	}
}

// pace is the shortest interval between two results of a FlagCache in a namespace.
func (b *Runner[T, R]) pace(namespace string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(MinInterval, time.Duration(b.sizes[namespace])*paceOfNamespace)
}

// Last returns the last result; false if there is none yet.
func (b *Runner[T, R]) Last(key types.NamespacedName) (last R, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.watched[key]; w != nil {
		return w.last, w.known
	}
	return last, false
}

// run works in the background if the Runner was started.
func (b *Runner[T, R]) run(w *watch[T, R]) {
	if b.parent == nil {
		return
	}
	ctx, stop := context.WithCancel(b.parent)
	w.stop = stop
	b.running.Go(func() {
		defer stop()
		if pause(ctx, w.settle) {
			b.repeat(ctx, w)
		}
	})
}

// repeat works immediately, and then whenever it is due.
func (b *Runner[T, R]) repeat(ctx context.Context, w *watch[T, R]) {
	for count := 1; ; count++ {
		started := time.Now()
		result, reported, ok := b.take(ctx, w)
		if !ok {
			return
		}
		if reported {
			b.work.Changed(w.key)
		}
		next := b.work.Next(w.target, result, count)
		if next == 0 {
			return
		}
		if !pause(ctx, time.Until(started.Add(max(next, b.pace(w.key.Namespace))))) {
			return
		}
	}
}

// pause waits, and returns false if ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// take works once and keeps the result, which may have to be reported; ok is false if ctx
// is done.
func (b *Runner[T, R]) take(ctx context.Context, w *watch[T, R]) (result R, reported, ok bool) {
	last, known := w.last, w.known // nobody else writes them
	result = b.takeInLanes(ctx, w, last)
	if ctx.Err() != nil {
		return result, false, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w.last, w.known = result, true
	return result, !known || b.work.Notifies(last, result), true
}

// takeInLanes repeats in the slow lane what does not end quickly.
func (b *Runner[T, R]) takeInLanes(ctx context.Context, w *watch[T, R], last R) R {
	if !b.isSlow(w) {
		result, took := b.attempt(ctx, b.quick, w, last)
		if took < b.quick.timeout {
			return result
		}
		b.setSlow(w, true)
	}
	result, took := b.attempt(ctx, b.slow, w, last)
	b.setSlow(w, took >= b.quick.timeout)
	return result
}

// isSlow and setSlow guard what the successor of a watch takes over.
func (b *Runner[T, R]) isSlow(w *watch[T, R]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.slow
}

func (b *Runner[T, R]) setSlow(w *watch[T, R], slow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.slow = slow
}

// attempt waits for a slot of a lane and works. It returns how long that took without the wait.
func (b *Runner[T, R]) attempt(ctx context.Context, l *lane, w *watch[T, R], last R) (result R, took time.Duration) {
	release, err := l.acquire(ctx, w.key.Namespace)
	if err != nil {
		return result, 0
	}
	defer release()
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	began := time.Now()
	result = b.work.Do(limited, w.target, last)
	return result, time.Since(began)
}
