// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/canary"
)

// minInterval between two samples of one canary, whatever the target requests.
const minInterval = time.Second

// Options configure a Sampler.
type Options struct {
	// Source of the samples.
	Source Source
	// Changed is called after each sample. It must not block for long.
	Changed func(types.NamespacedName)
	// MaxConcurrent is how many canaries are sampled at the same time, half of them whose
	// sources answer quickly. Default: 16.
	MaxConcurrent int64
}

// Sampler samples canaries. It is safe for concurrent use.
//
// Its sources belong to tenants, who must not delay one another's samples: canaries whose
// sources answer quickly never wait for those whose sources do not, nor for more than a
// part of the canaries of another namespace.
type Sampler struct {
	source      Source
	changed     func(types.NamespacedName)
	quick, slow *lane

	mu      sync.Mutex
	watched map[types.NamespacedName]*watch
	// parent of the watches' contexts, nil while the Sampler does not run.
	parent  context.Context
	running sync.WaitGroup
}

// watch is the sampling of one canary.
type watch struct {
	target Target
	stop   context.CancelFunc
	last   canary.Evidence
	known  bool
	// slow is whether the source did not answer quickly.
	slow bool
}

// NewSampler returns a Sampler, which samples nothing until it is started.
func NewSampler(o Options) *Sampler {
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 16
	}
	return &Sampler{
		source: o.Source, changed: o.Changed,
		quick: newLane(o.MaxConcurrent/2, quickTimeout), slow: newLane(o.MaxConcurrent/2, slowTimeout),
		watched: map[types.NamespacedName]*watch{},
	}
}

// Start samples until ctx is done, and returns when all sampling has ended.
func (s *Sampler) Start(ctx context.Context) error {
	s.mu.Lock()
	s.parent = ctx
	for _, w := range s.watched {
		s.run(w)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.parent = nil
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// Watch starts or continues sampling a canary. A changed target discards the last
// sample, which is no evidence about the new target.
func (s *Sampler) Watch(key types.NamespacedName, target Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.watched[key]; w != nil {
		if reflect.DeepEqual(w.target, target) {
			return
		}
		s.forget(key)
	}
	w := &watch{target: target, stop: func() {}}
	s.watched[key] = w
	s.run(w)
}

// Forget stops sampling.
func (s *Sampler) Forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(key)
}

func (s *Sampler) forget(key types.NamespacedName) {
	if w := s.watched[key]; w != nil {
		w.stop()
		delete(s.watched, key)
	}
}

// Last returns the last sample; false if there is none yet.
func (s *Sampler) Last(key types.NamespacedName) (canary.Evidence, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watched[key]
	if w == nil {
		return canary.Evidence{}, false
	}
	return w.last, w.known
}

// run samples in the background if the Sampler runs.
func (s *Sampler) run(w *watch) {
	if s.parent == nil {
		return
	}
	ctx, stop := context.WithCancel(s.parent)
	w.stop = stop
	s.running.Go(func() {
		defer stop()
		s.repeat(ctx, w)
	})
}

// repeat samples immediately and at every interval.
func (s *Sampler) repeat(ctx context.Context, w *watch) {
	ticker := time.NewTicker(max(w.target.Interval, minInterval))
	defer ticker.Stop()
	for {
		if sample, ok := s.sample(ctx, w); ok {
			s.mu.Lock()
			w.last, w.known = sample, true
			s.mu.Unlock()
			s.changed(w.target.FlagCache)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sample samples a canary once; ok is false if ctx is done.
func (s *Sampler) sample(ctx context.Context, w *watch) (sample canary.Evidence, ok bool) {
	if !w.slow {
		sample, took := s.attempt(ctx, s.quick, w.target)
		if took < quickTimeout {
			return sample, ctx.Err() == nil
		}
		w.slow = true
	}
	sample, took := s.attempt(ctx, s.slow, w.target)
	w.slow = took >= quickTimeout
	return sample, ctx.Err() == nil
}

// attempt waits for a slot of a lane and samples. It returns how long the sample took
// without the wait.
func (s *Sampler) attempt(ctx context.Context, l *lane, target Target) (sample canary.Evidence, took time.Duration) {
	release, err := l.acquire(ctx, target.FlagCache.Namespace)
	if err != nil {
		return canary.Evidence{}, 0
	}
	defer release()
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	began := time.Now()
	sample = s.source.Sample(limited, target)
	return sample, time.Since(began)
}
