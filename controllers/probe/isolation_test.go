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

// The number of probes is compared with that of a prober in the same process that
// watches only the healthy cache, so that a slow machine affects both.
func TestUnresponsiveCachesDoNotDelayAHealthyOne(t *testing.T) {
	const unresponsive, rounds = 1000, 40
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
	control, loaded := New(Options{Rules: loopback}), New(Options{Rules: loopback})
	count(control, &alone)
	count(loaded, &amongMany)
	start(t, loaded)
	for i := range unresponsive {
		loaded.Watch(named(fmt.Sprint("unresponsive-", i)), Target{Addr: hole, Key: "k", Interval: time.Second, Timeout: time.Second})
	}
	eventually(t, "the failing caches wait for workers", func() bool { return timedOut.Load() > 0 && loaded.backlog() > unresponsive/2 })

	target := Target{Addr: addr, Interval: 100 * time.Millisecond}
	start(t, control)
	target.Key = "alone"
	control.Watch(named("healthy"), target)
	target.Key = "among-many"
	loaded.Watch(named("healthy"), target)
	eventually(t, "the healthy cache is reported healthy among the unresponsive ones", func() bool {
		r, _ := loaded.Last(named("healthy"))
		return r.Outcome == Healthy
	})

	aloneBefore, manyBefore, timedOutBefore := alone.Load(), amongMany.Load(), timedOut.Load()
	eventually(t, fmt.Sprintf("the healthy cache was probed %d times alone", rounds), func() bool {
		return alone.Load()-aloneBefore >= rounds
	})
	if got := amongMany.Load() - manyBefore; got < rounds*9/10 {
		t.Errorf("the healthy cache was probed %d times alone and %d times among %d unresponsive ones", rounds, got, unresponsive)
	}
	if timedOut.Load() == timedOutBefore {
		t.Error("the unresponsive caches were not probed meanwhile")
	}
	if n := loaded.running(); n > DefaultWorkers {
		t.Errorf("%d concurrent probes, want at most %d", n, DefaultWorkers)
	}
}

// backlog returns the number of queued failing targets.
func (p *Prober) backlog() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lanes.failing.queue)
}
