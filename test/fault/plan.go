// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fault is a way in which a call fails.
type fault string

const (
	noFault fault = ""
	// lost: the request is not executed, and the connection is lost.
	lost fault = "lost"
	// applied: the request is executed, and the connection is lost before the response.
	applied fault = "applied"
	// conflict: 409, as after a concurrent write.
	conflict fault = "conflict"
	// tooMany: 429 with Retry-After, after client-go has given up.
	tooMany fault = "tooMany"
	// internal: 500.
	internal fault = "internal"
	// unavailable: 503.
	unavailable fault = "unavailable"
	// forbidden: 403, as after a change of RBAC.
	forbidden fault = "forbidden"
	// quota: 403, a ResourceQuota is exceeded.
	quota fault = "quota"
	// invalid: 422.
	invalid fault = "invalid"
	// terminating: 403, the namespace is being deleted.
	terminating fault = "terminating"
	// crashBefore and crashAfter: the process ends before or after the call.
	crashBefore fault = "crashBefore"
	crashAfter  fault = "crashAfter"
	// cancelled: the context is cancelled; every further call fails.
	cancelled fault = "cancelled"

	// flagCacheDeleted, specChanged, leaderChanged and leaderOverlapped are events immediately
	// before the call: the user deletes the FlagCache; the user changes its spec; another leader
	// reconciles until the World is at rest, before this one continues; another leader runs a
	// single reconciliation.
	flagCacheDeleted fault = "flagCacheDeleted"
	specChanged      fault = "specChanged"
	leaderChanged    fault = "leaderChanged"
	leaderOverlapped fault = "leaderOverlapped"
)

// faultsOf returns the faults that are possible at a call.
func faultsOf(c call) []fault {
	if !c.isWrite() {
		return []fault{lost, tooMany, internal, forbidden, crashBefore, cancelled}
	}
	faults := []fault{lost, applied, conflict, tooMany, internal, unavailable, forbidden, invalid, crashBefore, crashAfter, cancelled}
	if c.verb == "create" {
		faults = append(faults, quota, terminating)
	}
	return faults
}

// allFaults are the faults of all calls.
var allFaults = faultsOf(call{verb: "create"})

// concurrentEvents are the events that are possible before any call.
var concurrentEvents = []fault{flagCacheDeleted, specChanged, leaderChanged, leaderOverlapped}

// Repetitions of a fault at the same call.
const (
	once       = 1
	threeTimes = 3
	// untilLifted is for outageDuration, at every attempt.
	untilLifted = 0
)

var repetitions = []int{once, threeTimes, untilLifted}

// jumpSizes are the sizes of clock jumps.
var jumpSizes = []time.Duration{-24 * time.Hour, -time.Second, time.Minute, 24 * time.Hour}

// outageDuration is how long a fault lasts that is eventually cleared.
const outageDuration = 90 * time.Second

// point is a fault at the k-th call of the operator, and at the retries of that call.
type point struct {
	call  int
	fault fault
	times int
}

// isEvent reports whether the point is a concurrent event instead of a failure of the call.
func (p point) isEvent() bool { return slices.Contains(concurrentEvents, p.fault) }

// staleView is a stale informer cache: beginning with a reconciliation, cached reads return an
// earlier state.
type staleView struct {
	// reconcile is the reconciliation, counted from 1, before which the cache becomes stale.
	reconcile int
	// kind is the stale kind; kinds means all of them.
	kind kind
	// lag is the number of changes by which the cache is behind; with 0 it only stops advancing.
	lag int
	// restart reports that the operator restarts with the stale cache.
	restart bool
}

// staleDuration is how long a cache is stale.
const staleDuration = 20 * time.Second

// queueFault is a fault of the events that trigger the operator.
type queueFault struct {
	// reconcile is the reconciliation, counted from 1, at which it begins.
	reconcile int
	// lost is the number of lost events; the informer's resync compensates for them.
	lost int
	// extra is the number of additional reconciliations.
	extra int
	// restart restarts the operator.
	restart bool
}

// clockJump is a jump of the wall clock before a reconciliation.
type clockJump struct {
	reconcile int
	by        time.Duration
}

// plan has all faults of a run.
type plan struct {
	scenario    string
	points      []point
	staleViews  []staleView
	queueFaults []queueFault
	clockJumps  []clockJump
	// order is the order in which the actors act.
	order int
	// keepMemory retains the operator's cache of flag files between reconciliations.
	keepMemory bool
}

// String returns the line that replays a plan.
func (p plan) String() string {
	parts := []string{"scenario=" + p.scenario}
	for _, f := range p.points {
		parts = append(parts, fmt.Sprintf("%d:%s:%d", f.call, f.fault, f.times))
	}
	for _, s := range p.staleViews {
		name := "all"
		if s.kind < kinds {
			name = s.kind.String()
		}
		parts = append(parts, fmt.Sprintf("stale=%d:%s:%d:%t", s.reconcile, name, s.lag, s.restart))
	}
	for _, w := range p.queueFaults {
		parts = append(parts, fmt.Sprintf("queue=%d:%d:%d:%t", w.reconcile, w.lost, w.extra, w.restart))
	}
	for _, j := range p.clockJumps {
		parts = append(parts, fmt.Sprintf("jump=%d:%s", j.reconcile, j.by))
	}
	if p.order != 0 {
		parts = append(parts, fmt.Sprintf("order=%d", p.order))
	}
	if p.keepMemory {
		parts = append(parts, "memory=retained")
	}
	return strings.Join(parts, ";")
}

// parsePlan parses the result of String.
func parsePlan(line string) (plan, error) {
	var p plan
	for _, part := range strings.Split(line, ";") {
		if err := p.parse(part); err != nil {
			return plan{}, fmt.Errorf("plan %q, part %q: %w", line, part, err)
		}
	}
	return p, nil
}

func (p *plan) parse(part string) error {
	key, value, isPair := strings.Cut(part, "=")
	if !isPair {
		key, value = "point", part
	}
	f := fields{texts: strings.Split(value, ":")}
	switch key {
	case "scenario":
		p.scenario = f.text()
	case "point":
		p.points = append(p.points, point{call: f.number(), fault: fault(f.text()), times: f.number()})
	case "stale":
		p.staleViews = append(p.staleViews, staleView{reconcile: f.number(), kind: f.kind(), lag: f.number(), restart: f.boolean()})
	case "queue":
		p.queueFaults = append(p.queueFaults, queueFault{reconcile: f.number(), lost: f.number(), extra: f.number(), restart: f.boolean()})
	case "jump":
		p.clockJumps = append(p.clockJumps, clockJump{reconcile: f.number(), by: f.duration()})
	case "order":
		p.order = f.number()
	case "memory":
		p.keepMemory = f.text() == "retained"
	default:
		return fmt.Errorf("unknown part %q", key)
	}
	return f.err
}

// fields reads the colon-separated fields of a part.
type fields struct {
	texts []string
	err   error
}

func (f *fields) text() string {
	if len(f.texts) == 0 {
		f.err = cmp.Or(f.err, fmt.Errorf("a field is missing"))
		return ""
	}
	first := f.texts[0]
	f.texts = f.texts[1:]
	return first
}

func read[T any](f *fields, parse func(string) (T, error)) T {
	value, err := parse(f.text())
	f.err = cmp.Or(f.err, err)
	return value
}

func (f *fields) number() int             { return read(f, strconv.Atoi) }
func (f *fields) boolean() bool           { return read(f, strconv.ParseBool) }
func (f *fields) duration() time.Duration { return read(f, time.ParseDuration) }

func (f *fields) kind() kind {
	if name := f.text(); name != "all" {
		return kindNamed(name)
	}
	return kinds
}

// first returns the call and the reconciliation before which the plan has no faults.
func (p plan) first() (call, reconcile int) {
	call, reconcile = 1<<30, 1<<30
	for _, f := range p.points {
		call = min(call, f.call)
	}
	for _, s := range p.staleViews {
		reconcile = min(reconcile, s.reconcile)
	}
	for _, w := range p.queueFaults {
		reconcile = min(reconcile, w.reconcile)
	}
	for _, j := range p.clockJumps {
		reconcile = min(reconcile, j.reconcile)
	}
	if p.order != 0 || p.keepMemory {
		return 0, 0
	}
	return call, reconcile
}

// hasOutdatedDecisions reports whether the operator may decide on stale state, or others write
// during its reconciliation.
func (p plan) hasOutdatedDecisions() bool {
	return len(p.staleViews) > 0 || slices.ContainsFunc(p.points, point.isEvent)
}

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
