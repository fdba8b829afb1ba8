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

// fault is a way for a call to go wrong.
type fault string

const (
	noFault fault = ""
	// lost: the write is not done, and the caller sees a broken connection.
	lost fault = "lost"
	// applied: the write is done, and the caller sees a broken connection.
	applied fault = "applied"
	// conflict: 409, somebody else wrote in between.
	conflict fault = "conflict"
	// tooMany: 429 with Retry-After, after client-go has given up waiting.
	tooMany fault = "tooMany"
	// internal: 500.
	internal fault = "internal"
	// unavailable: 503.
	unavailable fault = "unavailable"
	// forbidden: 403, the RBAC was changed.
	forbidden fault = "forbidden"
	// quota: 403, a ResourceQuota is used up.
	quota fault = "quota"
	// invalid: 422.
	invalid fault = "invalid"
	// terminating: 403, the namespace is being deleted.
	terminating fault = "terminating"
	// crashBefore and crashAfter: the process ends before or after the call.
	crashBefore fault = "crashBefore"
	crashAfter  fault = "crashAfter"
	// cancelled: the process is asked to stop; every further call fails.
	cancelled fault = "cancelled"

	// deleted, respecified, overtaken and raced are not answers but events just
	// before the call: the user deletes the FlagCache; changes its spec; another
	// operator takes over, works until all is done, and this one goes on where it
	// was; the same, with the other only looking once.
	deleted     fault = "deleted"
	respecified fault = "respecified"
	overtaken   fault = "overtaken"
	raced       fault = "raced"
)

// faultsOf are the ways for a call to be answered wrongly.
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

// anyFault are the faults of any call.
var anyFault = faultsOf(call{verb: "create"})

// intrusions are what may happen just before any call.
var intrusions = []fault{deleted, respecified, overtaken, raced}

// How often a fault strikes the same call.
const (
	once  = 1
	three = 3
	// untilLifted is for outage of virtual time, at every attempt.
	untilLifted = 0
)

var repeats = []int{once, three, untilLifted}

// jumps are by how much the clock jumps.
var jumps = []time.Duration{-24 * time.Hour, -time.Second, time.Minute, 24 * time.Hour}

// outage is how long a fault lasts that is lifted at last.
const outage = 90 * time.Second

// point is a fault at the k-th call of the operator, and at the attempts of the
// same call that follow.
type point struct {
	call  int
	fault fault
	times int
}

// intrudes says that the point is an event and not an answer.
func (p point) intrudes() bool { return slices.Contains(intrusions, p.fault) }

// skew is an old view: from one look on, reads from the cache are answered from
// the past.
type skew struct {
	// look is the reconcile, counted from 1, before which it begins.
	look int
	// kind is the kind that is late; kinds means all of them.
	kind kind
	// lag is by how many changes; 0 is a view that stands still from now on.
	lag int
	// restart says that the operator restarts into the old view.
	restart bool
}

// stale is how long an old view lasts.
const stale = 20 * time.Second

// wake is trouble with what wakes the operator.
type wake struct {
	// look is the reconcile, counted from 1, from which on it is so.
	look int
	// lost is how many wake-ups get lost; an informer's resync makes up for it.
	lost int
	// extra is how many come on top.
	extra int
	// restart restarts the operator.
	restart bool
}

// jump is a step of the wall clock before a look.
type jump struct {
	look int
	by   time.Duration
}

// plan is all that goes wrong in a run.
type plan struct {
	scenario string
	points   []point
	skews    []skew
	wakes    []wake
	jumps    []jump
	// order is the order in which the actors of the World act.
	order int
	// memory says that the operator keeps its cache of flag files between looks.
	memory bool
}

// String is the line that replays a plan.
func (p plan) String() string {
	parts := []string{"scenario=" + p.scenario}
	for _, f := range p.points {
		parts = append(parts, fmt.Sprintf("%d:%s:%d", f.call, f.fault, f.times))
	}
	for _, s := range p.skews {
		name := "all"
		if s.kind < kinds {
			name = s.kind.String()
		}
		parts = append(parts, fmt.Sprintf("skew=%d:%s:%d:%t", s.look, name, s.lag, s.restart))
	}
	for _, w := range p.wakes {
		parts = append(parts, fmt.Sprintf("wake=%d:%d:%d:%t", w.look, w.lost, w.extra, w.restart))
	}
	for _, j := range p.jumps {
		parts = append(parts, fmt.Sprintf("jump=%d:%s", j.look, j.by))
	}
	if p.order != 0 {
		parts = append(parts, fmt.Sprintf("order=%d", p.order))
	}
	if p.memory {
		parts = append(parts, "memory=kept")
	}
	return strings.Join(parts, ";")
}

// parsePlan reads what String wrote.
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
	case "skew":
		p.skews = append(p.skews, skew{look: f.number(), kind: f.kind(), lag: f.number(), restart: f.truth()})
	case "wake":
		p.wakes = append(p.wakes, wake{look: f.number(), lost: f.number(), extra: f.number(), restart: f.truth()})
	case "jump":
		p.jumps = append(p.jumps, jump{look: f.number(), by: f.duration()})
	case "order":
		p.order = f.number()
	case "memory":
		p.memory = f.text() == "kept"
	default:
		return fmt.Errorf("there is no part %q", key)
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
func (f *fields) truth() bool             { return read(f, strconv.ParseBool) }
func (f *fields) duration() time.Duration { return read(f, time.ParseDuration) }

func (f *fields) kind() kind {
	if name := f.text(); name != "all" {
		return kindNamed(name)
	}
	return kinds
}

// first is the call and the look before which nothing of the plan happens.
func (p plan) first() (call, look int) {
	call, look = 1<<30, 1<<30
	for _, f := range p.points {
		call = min(call, f.call)
	}
	for _, s := range p.skews {
		look = min(look, s.look)
	}
	for _, w := range p.wakes {
		look = min(look, w.look)
	}
	for _, j := range p.jumps {
		look = min(look, j.look)
	}
	if p.order != 0 || p.memory {
		return 0, 0
	}
	return call, look
}

// changesView says that the operator may see what is not so any more, or that
// others act in the middle of its look.
func (p plan) changesView() bool {
	return len(p.skews) > 0 || slices.ContainsFunc(p.points, point.intrudes)
}
