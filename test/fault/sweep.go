// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reference is a run in which nothing goes wrong: what all others are compared
// with, and where they begin.
type reference struct {
	scenario scenario
	trace    []traced
	// forks are the World before each look.
	forks  []*World
	effort effort
	final  string
	broken []string
	// memo is what runs of this scenario have learnt, common what is known of the
	// reference's objects.
	memo   *memo
	common map[client.Object]skeleton
	// deleted and respecified are the final states when the user also did that.
	deleted, respecified string
	// canaried says that changes are tried in steps.
	canaried bool
}

// refer makes the reference run of a scenario, with so many looks after its end.
func refer(s scenario, silent int) *reference {
	r := &reference{scenario: s, memo: &memo{good: map[stateKey]future{}}, common: map[client.Object]skeleton{}}
	w := newWorld(s, plan{scenario: s.name})
	w.trace, w.forks = &r.trace, &r.forks
	w.drive(true)
	r.canaried = s.canaried
	r.effort, r.final = effort{looks: w.looks, calls: w.calls}, w.normal()
	w.trace, w.forks = nil, nil
	w.checkRest()
	w.checkEnd()
	if r.broken = w.broken; len(r.broken) > 0 {
		return r
	}
	end := w.fork(w.plan)
	w.checkSilence(silent)
	r.broken = w.broken
	for k := range kinds {
		for _, state := range w.api.past[k] {
			for _, o := range state {
				if _, known := r.common[o]; !known {
					r.common[o] = newSkeleton(o)
				}
			}
		}
	}
	r.deleted = finalAfter(end, step{"delete the FlagCache", (*World).deleteFlagCache})
	r.respecified = finalAfter(end, step{"change the spec", (*World).respecify})
	return r
}

// finalAfter is the final state when one more thing happens at the end.
func finalAfter(end *World, s step) string {
	w := end.fork(end.plan)
	w.scenario.steps = append(slices.Clone(w.scenario.steps), s)
	w.drive(true)
	return w.normal()
}

// begin is the World in which a plan is played: the reference's just before the
// plan's first event.
func (r *reference) begin(p plan) *World {
	call, look := p.first()
	for i := len(r.forks) - 1; i >= 0; i-- {
		if f := r.forks[i]; f.calls < call && f.looks < look {
			return f.fork(p)
		}
	}
	return newWorld(r.scenario, p)
}

// finding is something wrong with a run.
type finding struct {
	// oracle is what found it: invariant, end state, effort or silence.
	oracle string
	text   string
}

// Oracles.
const (
	byInvariant = "invariant"
	byEndState  = "end state"
	byEffort    = "effort"
	bySilence   = "silence"
)

// play runs a plan and judges it.
func (r *reference) play(p plan) []finding {
	w := r.begin(p)
	w.memo, w.common = r.memo, r.common
	w.run(silentLooks)
	found := r.judge(p, w)
	if len(found) == 0 {
		r.memo.learn(w)
	}
	return found
}

// judge compares a run with the reference.
func (r *reference) judge(p plan, w *World) []finding {
	var found []finding
	for _, text := range w.broken {
		found = append(found, finding{oracleOf(text), text})
	}
	if want := r.expected(p); w.final != want {
		found = append(found, finding{byEndState, "the final state differs from the reference's (-want +got):\n" + lineDiff(want, w.final)})
	}
	if limit := r.effort.looks + r.budget(p); w.effort.looks > limit {
		found = append(found, finding{byEffort, fmt.Sprintf("L3 effort: %d looks, the reference needs %d and the plan is worth %d more", w.effort.looks, r.effort.looks, limit-r.effort.looks)})
	}
	return found
}

func oracleOf(text string) string {
	switch {
	case strings.HasPrefix(text, "L1"):
		return byEndState
	case strings.HasPrefix(text, "L2"):
		return bySilence
	default:
		return byInvariant
	}
}

func (r *reference) expected(p plan) string {
	for _, f := range p.points {
		switch f.fault {
		case deleted:
			return r.deleted
		case respecified:
			return r.respecified
		}
	}
	return r.final
}

// budget is how many more looks a plan is worth.
func (r *reference) budget(p plan) int {
	extra := 0
	for _, f := range p.points {
		if f.times == untilLifted && r.canaried {
			extra += 30 // samples come and go meanwhile
		}
		if r.scenario.inCloud {
			extra += 20 // ACK is looked after by the clock
		}
		switch {
		case f.fault == respecified && r.canaried:
			extra += 20 + r.effort.looks // another revision is tried, from the beginning
		case f.intrudes():
			extra += 20
		case f.times == untilLifted:
			// With back-off from 200 ms on, 90 s take 10 attempts; each may be
			// followed by a look for its own writes.
			extra += 30
		default:
			extra += 3 + 4*f.times
		}
	}
	extra += 30 * len(p.skews)
	for _, w := range p.wakes {
		extra += 8 + 2*(w.extra+w.lost)
	}
	return extra + 12*len(p.jumps) + 12*min(1, p.order)
}

func lineDiff(want, got string) string {
	return cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

// singleFaults are all plans with one fault at one call.
func (r *reference) singleFaults() []plan {
	var plans []plan
	for i, c := range r.trace {
		for _, f := range faultsOf(c.call) {
			for _, times := range repeats {
				plans = append(plans, r.plan(func(p *plan) { p.points = []point{{i + 1, f, times}} }))
			}
		}
	}
	return plans
}

// intruded are all plans in which something happens just before a call.
func (r *reference) intruded() []plan {
	var plans []plan
	for i := range r.trace {
		for _, f := range intrusions {
			if slices.Contains(r.scenario.without, f) {
				continue
			}
			plans = append(plans, r.plan(func(p *plan) { p.points = []point{{i + 1, f, once}} }))
		}
	}
	return plans
}

// lags are by how many changes a view is old.
var lags = []int{0, 1, 2, 3, 5, 8}

// skewed are all plans with an old view of one kind or of all, with and without
// a restart into it. Views that show the same are one.
func (r *reference) skewed() []plan {
	var plans []plan
	for at, f := range r.forks {
		shown := map[string]bool{}
		for k := range kinds + 1 {
			for _, lag := range lags {
				view := fmt.Sprint(k == kinds, k, f.api.before(k, lag))
				if shown[view] {
					continue
				}
				shown[view] = true
				for _, restart := range []bool{false, true} {
					plans = append(plans, r.plan(func(p *plan) { p.skews = []skew{{at + 1, k, lag, restart}} }))
				}
			}
		}
	}
	return plans
}

// woken are all plans with lost and doubled wake-ups and with restarts.
func (r *reference) woken() []plan {
	var plans []plan
	for at := range r.forks {
		for _, w := range []wake{{lost: 1}, {lost: 2}, {lost: 5}, {extra: 1}, {extra: 2}, {restart: true}} {
			w.look = at + 1
			plans = append(plans, r.plan(func(p *plan) { p.wakes = []wake{w} }))
		}
	}
	return plans
}

// jumped are all plans with a jump of the clock.
func (r *reference) jumped() []plan {
	var plans []plan
	for at := range r.forks {
		for _, by := range jumps {
			plans = append(plans, r.plan(func(p *plan) { p.jumps = []jump{{at + 1, by}} }))
		}
	}
	return plans
}

// orders are all plans with another order of the actors.
func (r *reference) orders() []plan {
	var plans []plan
	for order := 1; order < 12; order++ {
		plans = append(plans, r.plan(func(p *plan) { p.order = order }))
	}
	return plans
}

// seed decides what is drawn of families that are too large to play:
// FAULT_SEED, else 1.
var seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("FAULT_SEED"), 10, 64); err == nil {
		return n
	}
	return 1
}()

// draw makes so many plans of points that chance chooses, for each its own.
func (r *reference) draw(family string, n int, points func(*rand.Rand) []point) []plan {
	h := fnv.New64a()
	fmt.Fprint(h, family, r.scenario.name)
	chance := rand.New(rand.NewPCG(seed, h.Sum64()))
	var plans []plan
	for range n {
		plans = append(plans, r.plan(func(p *plan) { p.points = points(chance) }))
	}
	return plans
}

// pairs is how many pairs of faults are drawn for each scenario: the second one
// strikes while the operator recovers from the first.
const pairs = 600

// paired are plans with two faults. The second one is at most a few looks later.
func (r *reference) paired() []plan {
	return r.draw("pairs", pairs, func(chance *rand.Rand) []point {
		first := 1 + chance.IntN(len(r.trace))
		second := first + 1 + chance.IntN(60)
		return []point{
			{first, pick(chance, faultsOf(r.trace[first-1].call)), pick(chance, repeats)},
			{second, pick(chance, anyFault), pick(chance, repeats)},
		}
	})
}

// turns is how many plans with several changes of leader there are.
const turns = 200

// switched are plans in which two to four other operators take over, one after
// the other, each in the middle of a look of the one before or of the first.
func (r *reference) switched() []plan {
	if slices.Contains(r.scenario.without, overtaken) {
		return nil
	}
	return r.draw("turns", turns, func(chance *rand.Rand) []point {
		var points []point
		at := 1 + chance.IntN(len(r.trace))
		for range 2 + chance.IntN(3) {
			points = append(points, point{at, pick(chance, []fault{overtaken, raced, raced}), once})
			at += 1 + chance.IntN(40)
		}
		return points
	})
}

func pick[T any](chance *rand.Rand, from []T) T { return from[chance.IntN(len(from))] }

func (r *reference) plan(with func(*plan)) plan {
	p := plan{scenario: r.scenario.name}
	with(&p)
	return p
}

// bad is a plan that went wrong.
type bad struct {
	plan  plan
	found []finding
}

// playAll plays plans on all processors, and returns those that went wrong in
// the order of their lines.
func (r *reference) playAll(plans []plan) []bad {
	var mu sync.Mutex
	var wrong []bad
	work := make(chan plan)
	var workers sync.WaitGroup
	if len(plans) > 0 {
		r.play(plan{scenario: r.scenario.name})
	}
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for p := range work {
				if found := r.play(p); len(found) > 0 {
					mu.Lock()
					wrong = append(wrong, bad{p, found})
					mu.Unlock()
				}
			}
		})
	}
	for _, p := range plans {
		work <- p
	}
	close(work)
	workers.Wait()
	sort.Slice(wrong, func(i, j int) bool { return wrong[i].plan.String() < wrong[j].plan.String() })
	return wrong
}

// remembered are single faults at an operator that keeps its cache of flag files
// from look to look.
func (r *reference) remembered() []plan {
	var plans []plan
	for i, c := range r.trace {
		if c.kind != configMaps {
			continue
		}
		for _, f := range faultsOf(c.call) {
			plans = append(plans, r.plan(func(p *plan) { p.memory, p.points = true, []point{{i + 1, f, once}} }))
		}
	}
	return plans
}
