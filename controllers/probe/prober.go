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

	"github.com/flagcache/flagcache/controllers/dial"
)

// DefaultWorkers is the default maximum of concurrent probes, a third of which are for
// failing caches. With the default interval and timeout, a thousand caches that all time
// out are each still probed about every 30 seconds.
const DefaultWorkers = 192

// Options configure a Prober. All are optional.
type Options struct {
	// Workers is the maximum of concurrent probes (default DefaultWorkers, at least 4:
	// one for each lane).
	Workers int
	// Clock schedules the probes (default the system's).
	Clock clock.Clock
	// Log logs when a cache becomes unhealthy or recovers, and each attempt at V(2)
	// (default none).
	Log logr.Logger
	// Changed is called by a worker when a target's result changes: it must not block,
	// and may call the Prober. Calls for one target never overlap.
	Changed func(key types.NamespacedName)
	// Rules allow and deny addresses (default the zero value).
	Rules *dial.Rules
}

// Prober probes the watched targets, each at its interval. It is safe
// for concurrent use. It implements controller-runtime's manager.Runnable and
// LeaderElectionRunnable.
type Prober struct {
	clock   clock.Clock
	log     logr.Logger
	changed func(types.NamespacedName)
	metrics *metrics
	// probe probes once, and spread returns a random share of an interval.
	probe  func(context.Context, Target) Attempt
	spread func() float64

	// wake wakes the scheduler.
	wake chan struct{}

	mu      sync.Mutex
	started bool
	// next is when the scheduler's timer fires, zero if it waits for wake.
	next    time.Time
	entries map[types.NamespacedName]*entry
	lanes   *lanes
}

// New returns a Prober without targets, which probes nothing before Start.
//
// The Redis client has one log for the whole process and logs parts of replies, so New
// disables it.
func New(o Options) *Prober {
	logging.Disable()
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Changed == nil {
		o.Changed = func(types.NamespacedName) {}
	}
	if o.Rules == nil {
		o.Rules = &dial.Rules{}
	}
	return &Prober{
		clock:   o.Clock,
		log:     o.Log,
		changed: o.Changed,
		metrics: newMetrics(),
		probe:   func(ctx context.Context, t Target) Attempt { return Once(ctx, t, o.Rules) },
		spread:  rand.Float64,
		wake:    make(chan struct{}, 1),
		entries: map[types.NamespacedName]*entry{},
		lanes:   newLanes(positiveOr(o.Workers, DefaultWorkers)),
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: only the leader
// probes.
func (p *Prober) NeedLeaderElection() bool { return true }

// Watch starts probing t at its interval under key. Watching an equal target again has
// no effect; a target that differs in any field replaces the previous one and its
// result, and is probed immediately.
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

// Forget stops probing the target under key, and cancels a running probe.
func (p *Prober) Forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.entries[key]; ok {
		p.drop(e)
	}
}

// Last returns the result of the target under key; false until the first probe of the
// current target has ended.
func (p *Prober) Last(key types.NamespacedName) (Result, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[key]
	if !ok || !e.probed {
		return Result{}, false
	}
	return e.state.Result, true
}

// Start probes until ctx is done, then waits for its workers. It can be called once.
func (p *Prober) Start(ctx context.Context) error {
	if !p.start() {
		return errors.New("starting the prober: already started")
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for ctx.Err() == nil {
		timer := p.timer(p.dispatch(ctx, &workers))
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C():
		}
		timer.Stop()
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

// idle is how long the scheduler sleeps if nothing is queued; queueing wakes it.
const idle = time.Hour

// timer returns a timer that fires at the given time, or after idle if that is zero.
func (p *Prober) timer(at time.Time) clock.Timer {
	if at.IsZero() {
		return p.clock.NewTimer(idle)
	}
	return p.clock.NewTimer(max(0, at.Sub(p.clock.Now())))
}

// dispatch starts the due entries that have a worker, and returns when to dispatch
// again, zero to wait for wake.
func (p *Prober) dispatch(ctx context.Context, workers *sync.WaitGroup) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	p.next = time.Time{}
	for _, l := range p.lanes.all() {
		for e := l.pop(now); e != nil; e = l.pop(now) {
			p.launch(ctx, workers, e, now.Sub(e.due))
		}
		if at, ok := l.wakeAt(); ok && p.isSooner(at) {
			p.next = at
		}
	}
	return p.next
}

// isSooner reports whether at is before the scheduler's timer fires.
func (p *Prober) isSooner(at time.Time) bool { return p.next.IsZero() || at.Before(p.next) }

// wakeFor wakes the scheduler if an entry of l is due before its timer fires.
func (p *Prober) wakeFor(l *lane) {
	if at, ok := l.wakeAt(); !ok || !p.isSooner(at) {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // it was woken already
	}
}

// launch probes e in a new goroutine; the workers of the lane bound their number.
func (p *Prober) launch(ctx context.Context, workers *sync.WaitGroup, e *entry, waited time.Duration) {
	l := e.lane
	hurry := l.hurried && hurriedTimeout < e.target.Timeout
	if hurry {
		ctx, e.cancel = context.WithTimeout(ctx, hurriedTimeout)
	} else {
		ctx, e.cancel = context.WithCancel(ctx)
	}
	p.metrics.wait.WithLabelValues(l.name).Observe(waited.Seconds())
	workers.Go(func() {
		attempt := p.probe(ctx, e.target)
		// The context ends early after hurriedTimeout, Forget, or the end of Start.
		aborted := attempt.Err != nil && ctx.Err() != nil
		if !aborted {
			p.handle(e, attempt)
		}
		p.requeue(e, l, attempt, aborted, waited)
	})
}

// handle records an attempt, and logs and reports a change.
func (p *Prober) handle(e *entry, a Attempt) {
	before, after, changed := p.record(e, a)
	log := p.log.WithValues("namespace", e.key.Namespace, "name", e.key.Name)
	log.V(2).Info("Probed cache", "reason", a.Reason, "latency", a.Latency)
	if before.Outcome != after.Outcome && (before.Outcome == Unhealthy || after.Outcome == Unhealthy) {
		log.Info("Cache changed", "outcome", after.Outcome, "reason", after.Reason, "message", after.Message)
	}
	if changed {
		p.changed(e.key)
	}
}

// record records an attempt, and returns the results before and after and whether they
// differ. An attempt of an entry that was removed or replaced is ignored.
func (p *Prober) record(e *entry, a Attempt) (before, after Result, changed bool) {
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

// requeue releases the worker of lane l and queues e again.
func (p *Prober) requeue(e *entry, l *lane, a Attempt, aborted bool, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.cancel()
	l.running--
	defer p.wakeFor(l)
	if p.entries[e.key] != e {
		return
	}
	next := p.lanes.after(e.state.Outcome, a, aborted)
	e.due = p.nextDue(e, l, next, aborted, waited)
	next.push(e)
	p.wakeFor(next)
}

// nextDue returns when e is due in the next lane after a probe in lane l.
func (p *Prober) nextDue(e *entry, l, next *lane, aborted bool, waited time.Duration) time.Time {
	now, interval := p.clock.Now(), e.target.Interval
	switch {
	case aborted:
		return now
	case next == &p.lanes.failing:
		return delayedBy(interval, waited, now)
	case l == &p.lanes.fresh || l == &p.lanes.failing:
		return firstTick(interval, p.spread(), now)
	}
	return nextTick(interval, e.due, now)
}

// drop removes e and cancels its probe.
func (p *Prober) drop(e *entry) {
	delete(p.entries, e.key)
	e.lane.remove(e)
	if e.cancel != nil {
		e.cancel()
	}
}
