// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/types"
)

// sampleTimeout bounds one look at one canary.
const sampleTimeout = 10 * time.Second

// shortestInterval between two looks at one canary, whatever its target says.
const shortestInterval = time.Second

// Options are what a Sampler works with.
type Options struct {
	// Source of the samples.
	Source Source
	// Changed is called after each sample. It must not block for long.
	Changed func(types.NamespacedName)
	// AtOnce is how many canaries are sampled at the same time. Default: 8.
	AtOnce int64
}

// Sampler samples canaries. It is safe for concurrent use.
type Sampler struct {
	source  Source
	changed func(types.NamespacedName)
	slots   *semaphore.Weighted

	mu      sync.Mutex
	watched map[types.NamespacedName]*watch
	// parent of the watches' contexts, nil before Start and after its end.
	parent  context.Context
	running sync.WaitGroup
}

// watch is one canary that is being sampled.
type watch struct {
	target Target
	stop   context.CancelFunc
	last   Sample
	known  bool
}

// NewSampler returns a Sampler that samples nothing before Start.
func NewSampler(o Options) *Sampler {
	if o.AtOnce == 0 {
		o.AtOnce = 8
	}
	return &Sampler{
		source: o.Source, changed: o.Changed, slots: semaphore.NewWeighted(o.AtOnce),
		watched: map[types.NamespacedName]*watch{},
	}
}

// Start samples until ctx is done, and returns when nothing of it runs any more.
func (c *Sampler) Start(ctx context.Context) error {
	c.mu.Lock()
	c.parent = ctx
	for _, w := range c.watched {
		c.run(w)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.parent = nil
	c.mu.Unlock()
	c.running.Wait()
	return nil
}

// Watch starts sampling a canary, or goes on. Another target under the same key
// begins anew: what was sampled about the old one is no evidence about it.
func (c *Sampler) Watch(key types.NamespacedName, target Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.watched[key]; w != nil {
		if reflect.DeepEqual(w.target, target) {
			return
		}
		c.forget(key)
	}
	w := &watch{target: target, stop: func() {}}
	c.watched[key] = w
	c.run(w)
}

// Forget stops sampling.
func (c *Sampler) Forget(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(key)
}

func (c *Sampler) forget(key types.NamespacedName) {
	if w := c.watched[key]; w != nil {
		w.stop()
		delete(c.watched, key)
	}
}

// Last is the last sample; false while there is none.
func (c *Sampler) Last(key types.NamespacedName) (Sample, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watched[key]
	if w == nil {
		return Sample{}, false
	}
	return w.last, w.known
}

// run samples in the background once the Sampler was started.
func (c *Sampler) run(w *watch) {
	if c.parent == nil {
		return
	}
	ctx, stop := context.WithCancel(c.parent)
	w.stop = stop
	c.running.Go(func() {
		defer stop()
		c.repeat(ctx, w)
	})
}

// repeat samples at once and at every interval.
func (c *Sampler) repeat(ctx context.Context, w *watch) {
	ticker := time.NewTicker(max(w.target.Interval, shortestInterval))
	defer ticker.Stop()
	for {
		if sample, ok := c.sample(ctx, w.target); ok {
			c.mu.Lock()
			w.last, w.known = sample, true
			c.mu.Unlock()
			c.changed(w.target.FlagCache)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sample waits for its turn and looks once; ok is false when ctx ended.
func (c *Sampler) sample(ctx context.Context, target Target) (sample Sample, ok bool) {
	if c.slots.Acquire(ctx, 1) != nil {
		return Sample{}, false
	}
	defer c.slots.Release(1)
	limited, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	sample = c.source.Sample(limited, target)
	return sample, ctx.Err() == nil
}
