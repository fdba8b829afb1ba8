// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9/logging"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// DefaultWorkers is how many probes may be under way at once by default, a third of
// them of caches that fail. With the default interval and timeout, a thousand caches that all
// time out are each still probed every 30 seconds or so.
const DefaultWorkers = 192

// Options are all optional.
type Options struct {
	// Workers is how many probes may be under way at once (default DefaultWorkers,
	// at least 4: each lane has one).
	Workers int
	// Clock tells when a target is due (default the system's).
	Clock clock.Clock
	// Log gets a line when a cache becomes unhealthy or recovers, and each attempt at
	// V(2) (default none).
	Log logr.Logger
	// Changed is called when a target's result means something else than before,
	// from the worker that found out: it must be quick, must not block, and may call
	// the Prober. Calls for one target never overlap.
	Changed func(key types.NamespacedName)
	// DialControl decides which addresses may be connected to (default DenyLinkLocal).
	DialControl DialControl
}

// Prober probes the targets it is told to watch, each on its interval. It is safe
// for concurrent use. It implements controller-runtime's manager.Runnable and
// LeaderElectionRunnable.
type Prober struct {
	clock   clock.Clock
	log     logr.Logger
	changed func(types.NamespacedName)
	metrics *metrics
	// probe makes one attempt, and spread is a random share of an interval.
	probe  func(context.Context, Target) Attempt
	spread func() float64

	// wake tells the scheduler that there may be something to start.
	wake chan struct{}

	mu      sync.Mutex
	started bool
	// next is when the scheduler looks again by itself, zero for not at all.
	next    time.Time
	entries map[types.NamespacedName]*entry
	lanes   *lanes
}

// New returns a Prober that watches nothing and does nothing before Start.
//
// The Redis client has one log for the whole process and writes pieces of replies
// to it, so New switches it off.
func New(o Options) *Prober {
	logging.Disable()
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Changed == nil {
		o.Changed = func(types.NamespacedName) {}
	}
	if o.DialControl == nil {
		o.DialControl = DenyLinkLocal
	}
	return &Prober{
		clock:   o.Clock,
		log:     o.Log,
		changed: o.Changed,
		metrics: newMetrics(),
		probe:   func(ctx context.Context, t Target) Attempt { return once(ctx, t, o.DialControl) },
		spread:  rand.Float64,
		wake:    make(chan struct{}, 1),
		entries: map[types.NamespacedName]*entry{},
		lanes:   newLanes(positiveOr(o.Workers, DefaultWorkers)),
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: one replica of the
// operator probes.
func (p *Prober) NeedLeaderElection() bool { return true }

// Watch probes t on its interval under key, from now on. To watch the same target
// again changes nothing; a target that differs in any field replaces the one before,
// is probed at once, and nothing that was known of the old one counts.
func (p *Prober) Watch(key types.NamespacedName, t Target) {
	t = t.withDefaults()
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.entries[key]; ok {
		if e.target.equal(t) {
			return
		}
		p.drop(e)
	}
	now := p.clock.Now()
	e := &entry{key: key, target: t, due: now, index: notQueued}
	e.state.ID, e.state.Since = t.ID, now
	p.entries[key] = e
	p.lanes.fresh.push(e)
	p.wakeFor(&p.lanes.fresh)
}

// Forget ends the watch under key, and the probe that may be under way.
func (p *Prober) Forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.entries[key]; ok {
		p.drop(e)
	}
}

// Last is what is known about the target under key. It is false until the first
// probe has ended of the target as it is now.
func (p *Prober) Last(key types.NamespacedName) (Result, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[key]
	if !ok || !e.probed {
		return Result{}, false
	}
	return e.state.Result, true
}

// Start probes until ctx ends, then waits for its workers, which end with ctx. It
// can be called once.
func (p *Prober) Start(ctx context.Context) error {
	if !p.start() {
		return errors.New("starting the prober: it was started before")
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for ctx.Err() == nil {
		alarm := p.alarm(p.dispatch(ctx, &workers))
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-alarm.C():
		}
		alarm.Stop()
	}
	return nil
}

func (p *Prober) start() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.started
	p.started = true
	return first
}

// idle is how long the scheduler sleeps when nothing is queued; whatever is queued
// then wakes it.
const idle = time.Hour

// alarm fires at the given time, or after idle if that is zero.
func (p *Prober) alarm(at time.Time) clock.Timer {
	if at.IsZero() {
		return p.clock.NewTimer(idle)
	}
	return p.clock.NewTimer(max(0, at.Sub(p.clock.Now())))
}

// dispatch starts what is due and has a worker, and returns when to look again:
// zero for not before something wakes the scheduler.
func (p *Prober) dispatch(ctx context.Context, workers *sync.WaitGroup) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	p.next = time.Time{}
	for _, l := range p.lanes.all() {
		for e := l.pop(now); e != nil; e = l.pop(now) {
			p.launch(ctx, workers, e, now.Sub(e.due))
		}
		if at, ok := l.wakeAt(); ok && p.sooner(at) {
			p.next = at
		}
	}
	return p.next
}

// sooner reports whether at is before the scheduler looks again.
func (p *Prober) sooner(at time.Time) bool { return p.next.IsZero() || at.Before(p.next) }

// wakeFor wakes the scheduler if it is needed in l sooner than it looks again.
func (p *Prober) wakeFor(l *lane) {
	if at, ok := l.wakeAt(); !ok || !p.sooner(at) {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // it is about to look
	}
}

// launch gives e a worker: a goroutine of its own, as the lane's budget bounds
// their number.
func (p *Prober) launch(ctx context.Context, workers *sync.WaitGroup, e *entry, late time.Duration) {
	l := e.lane
	hurry := l.hurried && patience < e.target.Timeout
	if hurry {
		ctx, e.cancel = context.WithTimeout(ctx, patience)
	} else {
		ctx, e.cancel = context.WithCancel(ctx)
	}
	p.metrics.wait.WithLabelValues(l.name).Observe(late.Seconds())
	workers.Go(func() {
		attempt := p.probe(ctx, e.target)
		// The context ends early for who lost patience, was forgotten, or stops.
		aborted := attempt.Err != nil && ctx.Err() != nil
		if !aborted {
			p.judge(e, attempt)
		}
		p.requeue(e, l, attempt, aborted, late)
	})
}

// judge records an attempt and tells who wants to know if it is news.
func (p *Prober) judge(e *entry, a Attempt) {
	before, after, news := p.record(e, a)
	log := p.log.WithValues("namespace", e.key.Namespace, "name", e.key.Name)
	log.V(2).Info("probed cache", "reason", a.Reason, "latency", a.Latency)
	if before.Outcome != after.Outcome && (before.Outcome == Unhealthy || after.Outcome == Unhealthy) {
		log.Info("cache changed", "outcome", after.Outcome, "reason", after.Reason, "message", after.Message)
	}
	if news {
		p.changed(e.key)
	}
}

// record counts an attempt, and reports what was known before and after, and whether
// that is news. An attempt at an entry that was forgotten or replaced meanwhile does
// not count.
func (p *Prober) record(e *entry, a Attempt) (before, after Result, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, first := e.state.Result, !e.probed
	if p.entries[e.key] != e {
		return before, before, false
	}
	p.metrics.observe(a)
	e.probed = true
	e.state = step(e.state, a, p.clock.Now(), e.thresholds())
	return before, e.state.Result, first || !e.state.Same(before)
}

// requeue gives the worker back to its lane l and queues e again.
func (p *Prober) requeue(e *entry, l *lane, a Attempt, aborted bool, late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.cancel()
	l.running--
	defer p.wakeFor(l)
	if p.entries[e.key] != e {
		return
	}
	next := p.lanes.after(e.state.Outcome, a, aborted)
	e.due = p.dueAgain(e, l, next, aborted, late)
	next.push(e)
	p.wakeFor(next)
}

// dueAgain is when e is due in the next lane, after a probe in lane l.
func (p *Prober) dueAgain(e *entry, l, next *lane, aborted bool, late time.Duration) time.Time {
	now, interval := p.clock.Now(), e.target.Interval
	switch {
	case aborted:
		return now
	case next == &p.lanes.failing:
		return giveWay(interval, late, now)
	case l == &p.lanes.fresh || l == &p.lanes.failing:
		return firstBeat(interval, p.spread(), now)
	}
	return keepBeat(interval, e.due, now)
}

// drop forgets e, wherever it is.
func (p *Prober) drop(e *entry) {
	delete(p.entries, e.key)
	e.lane.remove(e)
	if e.cancel != nil {
		e.cancel()
	}
}
