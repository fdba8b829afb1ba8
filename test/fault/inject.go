// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"slices"
)

// injectBeforeReconcile applies the parts of the plan for the next reconciliation.
func (w injector) injectBeforeReconcile() {
	for _, s := range w.plan.staleViews {
		if s.reconcile != w.reconciles {
			continue
		}
		if s.restart {
			w.process().restart()
			w.queue.ready = w.time
		}
		w.cache = cacheView{until: w.time.Add(staleDuration), of: s.kind, states: w.api.statesBefore(s.kind, s.lag)}
		w.logf("---- the cache of %s is stale, %d changes behind", viewName(s.kind), s.lag)
	}
	for _, d := range w.plan.queueFaults {
		if d.reconcile != w.reconciles {
			continue
		}
		if d.restart {
			w.process().restart()
			w.queue.ready = w.time
		}
		w.queue.loseNext, w.queue.addNext = d.lost, d.extra
	}
	for _, j := range w.plan.clockJumps {
		if j.reconcile == w.reconciles {
			w.offset += j.by
			w.logf("---- the clock jumps by %v", j.by)
		}
	}
}

// faultAt returns the fault of a call.
func (w injector) faultAt(c call) fault {
	for i, p := range w.plan.points {
		s := &w.injections[i]
		if p.isEvent() || !w.matches(p, s, c) {
			continue
		}
		if s.times == 0 {
			s.call, s.since = c, w.time
		}
		s.times++
		if w.current != nil {
			w.current.faulted = true
		}
		switch s.lastReconcile {
		case w.reconciles:
		case w.reconciles - 1:
			s.consecutive++
		default:
			s.consecutive = 1
		}
		s.lastReconcile = w.reconciles
		return p.fault
	}
	return noFault
}

// matches reports whether a point applies to a call: its own, or else the next one at which its
// fault is possible, and then the retries of that call.
func (w injector) matches(p point, s *injection, c call) bool {
	switch {
	case s.times == 0:
		return w.calls >= p.call && slices.Contains(faultsOf(c), p.fault)
	case !s.call.sameTarget(c):
		return false
	case p.times == untilLifted:
		return w.time.Before(s.since.Add(outageDuration))
	default:
		return s.times < p.times
	}
}

// injectEvents runs the events that the plan has before a call.
func (w injector) injectEvents(c call) {
	for i, p := range w.plan.points {
		if p.call != w.calls || w.injections[i].times > 0 || !p.isEvent() {
			continue
		}
		w.injections[i].times++
		w.logf("---- before %s: %s", c, p.fault)
		switch p.fault {
		case flagCacheDeleted:
			w.as("user", w.user().deleteFlagCache)
		case specChanged:
			w.as("user", w.user().changePodLabels)
		case leaderChanged, leaderOverlapped:
			w.runOtherLeader(p.fault == leaderChanged)
		}
	}
}

// runOtherLeader runs another leader during a reconciliation of this one, for one reconciliation or
// until the World is at rest.
func (w injector) runOtherLeader(all bool) {
	held, writer := w.current, w.writer
	held.replaced = true
	w.writer = "cluster"
	w.process().restart()
	w.queue.ready = w.time
	if all {
		w.runUntilRest(false)
	} else {
		w.process().runReconcile()
	}
	w.current, w.writer = held, writer
	w.logf("---- the previous leader continues")
}
