// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// A thousand caches that all time out do not delay the probes of a healthy one. It
// is measured against a prober in the same process that watches the healthy one
// alone, as a count, so that a slow machine slows down both.
func TestAThousandSilentCachesDoNotDelayAHealthyOne(t *testing.T) {
	const silent, rounds = 1000, 40
	addr := startRedis(t)
	hole := blackHole(t)

	var alone, amongMany, timedOut atomic.Int64
	count := func(p *Prober, healthy *atomic.Int64) {
		probe := p.probe
		p.probe = func(ctx context.Context, target Target) Attempt {
			a := probe(ctx, target)
			switch {
			case target.Addr == addr && a.Err == nil:
				healthy.Add(1)
			case target.Addr == hole && ctx.Err() == nil:
				timedOut.Add(1)
			}
			return a
		}
	}
	control, crowded := New(Options{}), New(Options{})
	count(control, &alone)
	count(crowded, &amongMany)
	start(t, crowded)
	for i := range silent {
		crowded.Watch(named(fmt.Sprint("silent-", i)), Target{Addr: hole, Key: "k", Interval: time.Second, Timeout: time.Second})
	}
	eventually(t, "the failing caches wait for each other", func() bool { return timedOut.Load() > 0 && crowded.backlog() > silent/2 })

	target := Target{Addr: addr, Interval: 100 * time.Millisecond}
	start(t, control)
	target.Key = "alone"
	control.Watch(named("healthy"), target)
	target.Key = "among-many"
	crowded.Watch(named("healthy"), target)
	eventually(t, "the healthy cache is found healthy among the silent ones", func() bool {
		r, _ := crowded.Last(named("healthy"))
		return r.Outcome == Healthy
	})

	aloneBefore, manyBefore, timedOutBefore := alone.Load(), amongMany.Load(), timedOut.Load()
	eventually(t, fmt.Sprintf("the healthy cache was probed %d times alone", rounds), func() bool {
		return alone.Load()-aloneBefore >= rounds
	})
	if got := amongMany.Load() - manyBefore; got < rounds*9/10 {
		t.Errorf("the healthy cache was probed %d times alone and %d times among %d silent ones", rounds, got, silent)
	}
	if timedOut.Load() == timedOutBefore {
		t.Error("the silent caches were not probed meanwhile")
	}
	if n := crowded.running(); n > DefaultWorkers {
		t.Errorf("%d probes are under way, want %d at most", n, DefaultWorkers)
	}
}

// backlog is how many failing targets are queued.
func (p *Prober) backlog() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lanes.failing.queue)
}
