// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// minInterval between two samples of one FlagCache, whatever is requested.
	minInterval = time.Second
	// paceOfNamespace between two samples of a namespace, on average: each costs requests to
	// the API server, which all namespaces share. It delays only who has many FlagCaches with
	// short intervals.
	paceOfNamespace = 250 * time.Millisecond
)

// sampling is what to sample, and when.
type sampling[T, S any] struct {
	// sample samples a target. Last is the sample before, the zero value for the first.
	sample func(ctx context.Context, target T, last S) S
	// next is how long after the start of a sample the next one starts; 0 is not before
	// the target changes. Count is the number of samples of the target.
	next func(target T, last S, count int) time.Duration
	// keeps reports whether the last sample is about a changed target, too.
	keeps func(before, after T) bool
	// notifies reports whether a sample is reported that follows on another one.
	notifies func(before, after S) bool
	// changed is called after samples that are reported. It must not block for long.
	changed func(types.NamespacedName)
}

// background samples targets in the background, one of each FlagCache. It is safe for
// concurrent use.
//
// FlagCaches whose sources answer quickly never wait for those whose sources do not, nor
// for more than a part of the FlagCaches of another namespace. A namespace has at most four
// samples a second.
type background[T, S any] struct {
	sampling[T, S]
	quick, slow *lane

	mu      sync.Mutex
	watched map[types.NamespacedName]*watch[T, S]
	// sizes are how many are watched, by namespace.
	sizes map[string]int
	// parent of the watches' contexts, nil while the samplers do not run.
	parent  context.Context
	running sync.WaitGroup
}

// watch is the sampling of one FlagCache.
type watch[T, S any] struct {
	key    types.NamespacedName
	target T
	stop   context.CancelFunc
	last   S
	known  bool
	// slow is whether the source did not answer quickly.
	slow bool
}

// newBackground returns samplers that take at most so many samples at the same time, half of
// them quick ones, and none until they are started.
func newBackground[T, S any](concurrent int64, what sampling[T, S]) background[T, S] {
	return background[T, S]{
		sampling: what, watched: map[types.NamespacedName]*watch[T, S]{}, sizes: map[string]int{},
		quick: newLane(concurrent/2, quickTimeout), slow: newLane(concurrent/2, slowTimeout),
	}
}

// Start samples until ctx is done, and returns when all sampling has ended.
func (b *background[T, S]) Start(ctx context.Context) error {
	b.mu.Lock()
	b.parent = ctx
	for _, w := range b.watched {
		b.run(w)
	}
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.parent = nil
	b.mu.Unlock()
	b.running.Wait()
	return nil
}

// Watch starts or continues sampling a FlagCache. A target that changed is sampled
// immediately.
func (b *background[T, S]) Watch(key types.NamespacedName, target T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &watch[T, S]{key: key, target: target, stop: func() {}}
	if before := b.watched[key]; before != nil {
		if reflect.DeepEqual(before.target, target) {
			return
		}
		if b.keeps(before.target, target) {
			w.last, w.known = before.last, before.known
		}
		b.forget(key)
	}
	b.watched[key] = w
	b.sizes[key.Namespace]++
	b.run(w)
}

// Forget stops sampling.
func (b *background[T, S]) Forget(key types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(key)
}

func (b *background[T, S]) forget(key types.NamespacedName) {
	if w := b.watched[key]; w != nil {
		w.stop()
		delete(b.watched, key)
		if b.sizes[key.Namespace]--; b.sizes[key.Namespace] == 0 {
			delete(b.sizes, key.Namespace)
		}
	}
}

// pace is the shortest interval between two samples of a FlagCache in a namespace.
func (b *background[T, S]) pace(namespace string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(minInterval, time.Duration(b.sizes[namespace])*paceOfNamespace)
}

// Last returns the last sample; false if there is none yet.
func (b *background[T, S]) Last(key types.NamespacedName) (last S, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.watched[key]; w != nil {
		return w.last, w.known
	}
	return last, false
}

// run samples in the background if the samplers run.
func (b *background[T, S]) run(w *watch[T, S]) {
	if b.parent == nil {
		return
	}
	ctx, stop := context.WithCancel(b.parent)
	w.stop = stop
	b.running.Go(func() {
		defer stop()
		b.repeat(ctx, w)
	})
}

// repeat samples immediately, and then whenever the next sample is due.
func (b *background[T, S]) repeat(ctx context.Context, w *watch[T, S]) {
	for count := 1; ; count++ {
		started := time.Now()
		sample, reported, ok := b.take(ctx, w)
		if !ok {
			return
		}
		if reported {
			b.changed(w.key)
		}
		next := b.next(w.target, sample, count)
		if next == 0 {
			return
		}
		timer := time.NewTimer(time.Until(started.Add(max(next, b.pace(w.key.Namespace)))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// take samples once and keeps the sample, which may have to be reported; ok is false if ctx
// is done.
func (b *background[T, S]) take(ctx context.Context, w *watch[T, S]) (sample S, reported, ok bool) {
	last, known := w.last, w.known // nobody else writes them
	sample = b.takeInLanes(ctx, w, last)
	if ctx.Err() != nil {
		return sample, false, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w.last, w.known = sample, true
	return sample, !known || b.notifies(last, sample), true
}

// takeInLanes samples in the slow lane what does not answer quickly.
func (b *background[T, S]) takeInLanes(ctx context.Context, w *watch[T, S], last S) S {
	if !w.slow {
		sample, took := b.attempt(ctx, b.quick, w, last)
		if took < quickTimeout {
			return sample
		}
		w.slow = true
	}
	sample, took := b.attempt(ctx, b.slow, w, last)
	w.slow = took >= quickTimeout
	return sample
}

// attempt waits for a slot of a lane and samples. It returns how long the sample took
// without the wait.
func (b *background[T, S]) attempt(ctx context.Context, l *lane, w *watch[T, S], last S) (sample S, took time.Duration) {
	release, err := l.acquire(ctx, w.key.Namespace)
	if err != nil {
		return sample, 0
	}
	defer release()
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	began := time.Now()
	sample = b.sample(limited, w.target, last)
	return sample, time.Since(began)
}
