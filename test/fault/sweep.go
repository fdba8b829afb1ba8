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
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/plan/revision"
)

// reference is a run without faults, with which all other runs of a scenario are compared and from
// which they are forked.
type reference struct {
	scenario scenario
	trace    []tracedCall
	// forks are copies of the World before each reconciliation.
	forks      []*World
	effort     effort
	final      string
	violations []string
	// memo has the states known from runs of this scenario, common the fingerprints of the
	// reference's objects.
	memo   *memo
	common map[client.Object]fingerprint
	// finalDeleted and finalSpecChanged are the final states after a deletion and after a change of
	// the spec.
	finalDeleted, finalSpecChanged string
	// hasCanary reports that changes are evaluated by a canary.
	hasCanary bool
}

// newReference runs a scenario without faults, followed by a number of reconciliations.
func newReference(s scenario, silent int) *reference {
	r := &reference{scenario: s, memo: &memo{states: map[stateKey]future{}}, common: map[client.Object]fingerprint{}}
	w := newWorld(s, plan{scenario: s.name})
	w.calledTrace, w.forks = &r.trace, &r.forks
	w.runUntilRest(true)
	r.hasCanary = s.hasCanary
	r.effort, r.final = effort{reconciles: w.reconciles, calls: w.calls}, w.digest().normalized()
	w.calledTrace, w.forks = nil, nil
	w.oracle().checkAtRest()
	w.checkOutcome()
	if r.violations = w.violations; len(r.violations) > 0 {
		return r
	}
	end := w.fork(w.plan)
	w.oracle().checkSteadyState(silent, silent/2)
	r.violations = w.violations
	for k := range kinds {
		for _, state := range w.api.history[k] {
			for _, o := range state {
				if _, known := r.common[o]; !known {
					r.common[o] = newFingerprint(o)
				}
			}
		}
	}
	r.finalDeleted = finalAfter(end, step{"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }})
	r.finalSpecChanged = finalAfter(end, step{"change the spec", func(w *World) { w.user().changePodLabels() }})
	return r
}

// finalAfter returns the final state after an additional step.
func finalAfter(end *World, s step) string {
	w := end.fork(end.plan)
	w.scenario.steps = append(slices.Clone(w.scenario.steps), s)
	w.runUntilRest(true)
	return w.digest().normalized()
}

// fork returns the World in which a plan is run: the reference's, just before the first fault.
func (r *reference) fork(p plan) *World {
	call, reconcile := p.first()
	for i := len(r.forks) - 1; i >= 0; i-- {
		if f := r.forks[i]; f.calls < call && f.reconciles < reconcile {
			return f.fork(p)
		}
	}
	return newWorld(r.scenario, p)
}

// finding is a defect of a run.
type finding struct {
	// oracle is what detected it: invariant, end state, effort or steady state.
	oracle string
	text   string
}

// Oracles.
const (
	byInvariant   = "invariant"
	byEndState    = "end state"
	byEffort      = "effort"
	bySteadyState = "steady state"
)

// check runs a plan and returns its defects.
func (r *reference) check(p plan) []finding {
	w := r.fork(p)
	w.memo, w.common = r.memo, r.common
	w.runToEnd(steadyReconciles)
	found := r.compare(p, w)
	if len(found) == 0 {
		r.memo.learn(w)
	}
	return found
}

// compare compares a run with the reference.
func (r *reference) compare(p plan, w *World) []finding {
	var found []finding
	for _, text := range w.violations {
		found = append(found, finding{oracleOf(text), text})
	}
	if want := r.expected(p); w.final != want {
		found = append(found, finding{byEndState, "the final state differs from the reference's (-want +got):\n" + lineDiff(want, w.final)})
	}
	if limit := r.effort.reconciles + r.budget(p); w.effort.reconciles > limit {
		found = append(found, finding{byEffort, fmt.Sprintf("L3 effort: %d reconciliations, the reference needs %d and the plan may cause %d more", w.effort.reconciles, r.effort.reconciles, limit-r.effort.reconciles)})
	}
	return found
}

func oracleOf(text string) string {
	switch {
	case strings.HasPrefix(text, "L1"):
		return byEndState
	case strings.HasPrefix(text, "L2"):
		return bySteadyState
	default:
		return byInvariant
	}
}

func (r *reference) expected(p plan) string {
	for _, f := range p.points {
		switch f.fault {
		case flagCacheDeleted:
			return r.finalDeleted
		case specChanged:
			return r.finalSpecChanged
		}
	}
	return r.final
}

// budget returns the number of additional reconciliations that a plan may cause.
func (r *reference) budget(p plan) int {
	extra := 0
	if r.scenario.waitsForDeadline {
		extra += 4 * int(revision.ProgressDeadline*time.Second/sampleInterval)
	}
	for _, f := range p.points {
		if f.times == untilLifted && r.hasCanary {
			extra += 30 // samples are taken meanwhile
		}
		if r.scenario.inCloud {
			extra += 20 // ACK's progress is polled
		}
		switch {
		case f.fault == specChanged && r.hasCanary:
			extra += 20 + r.effort.reconciles // another canary runs from the beginning
		case f.isEvent():
			extra += 20
		case f.times == untilLifted:
			// With a back-off from 200 ms, there are 10 attempts in 90 s; each may be followed by a
			// reconciliation for the operator's own writes.
			extra += 30
		default:
			extra += 3 + 4*f.times
		}
	}
	extra += 30 * len(p.staleViews)
	for _, w := range p.queueFaults {
		extra += 8 + 2*(w.extra+w.lost)
	}
	return extra + 12*len(p.clockJumps) + 12*min(1, p.order)
}

func lineDiff(want, got string) string {
	return cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

// singleFaults returns all plans with one fault at one call.
func (r *reference) singleFaults() []plan {
	var plans []plan
	for i, c := range r.trace {
		for _, f := range faultsOf(c.call) {
			for _, times := range repetitions {
				plans = append(plans, r.plan(func(p *plan) { p.points = []point{{i + 1, f, times}} }))
			}
		}
	}
	return plans
}

// withEvents returns all plans with a concurrent event before a call.
func (r *reference) withEvents() []plan {
	var plans []plan
	for i := range r.trace {
		for _, f := range concurrentEvents {
			if slices.Contains(r.scenario.excludedEvents, f) {
				continue
			}
			plans = append(plans, r.plan(func(p *plan) { p.points = []point{{i + 1, f, once}} }))
		}
	}
	return plans
}

// lags are the numbers of changes by which caches are behind.
var lags = []int{0, 1, 2, 3, 5, 8}

// withStaleViews returns all plans with stale caches of one kind or of all kinds, with and without
// a restart. Views with the same content are included once.
func (r *reference) withStaleViews() []plan {
	var plans []plan
	for at, f := range r.forks {
		shown := map[string]bool{}
		for k := range kinds + 1 {
			for _, lag := range lags {
				view := fmt.Sprint(k == kinds, k, f.api.statesBefore(k, lag))
				if shown[view] {
					continue
				}
				shown[view] = true
				for _, restart := range []bool{false, true} {
					plans = append(plans, r.plan(func(p *plan) { p.staleViews = []staleView{{at + 1, k, lag, restart}} }))
				}
			}
		}
	}
	return plans
}

// withQueueFaults returns all plans with lost and duplicated events and with restarts.
func (r *reference) withQueueFaults() []plan {
	var plans []plan
	for at := range r.forks {
		for _, w := range []queueFault{{lost: 1}, {lost: 2}, {lost: 5}, {extra: 1}, {extra: 2}, {restart: true}} {
			w.reconcile = at + 1
			plans = append(plans, r.plan(func(p *plan) { p.queueFaults = []queueFault{w} }))
		}
	}
	return plans
}

// withClockJumps returns all plans with a jump of the clock.
func (r *reference) withClockJumps() []plan {
	var plans []plan
	for at := range r.forks {
		for _, by := range jumpSizes {
			plans = append(plans, r.plan(func(p *plan) { p.clockJumps = []clockJump{{at + 1, by}} }))
		}
	}
	return plans
}

// withOrders returns all plans with another order of the actors.
func (r *reference) withOrders() []plan {
	var plans []plan
	for order := 1; order < 12; order++ {
		plans = append(plans, r.plan(func(p *plan) { p.order = order }))
	}
	return plans
}

// seed selects the random plans of families that are too large to run completely: FAULT_SEED, or 1.
var seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("FAULT_SEED"), 10, 64); err == nil {
		return n
	}
	return 1
}()

// random returns plans with random points.
func (r *reference) random(family string, n int, points func(*rand.Rand) []point) []plan {
	h := fnv.New64a()
	fmt.Fprint(h, family, r.scenario.name)
	chance := rand.New(rand.NewPCG(seed, h.Sum64()))
	var plans []plan
	for range n {
		plans = append(plans, r.plan(func(p *plan) { p.points = points(chance) }))
	}
	return plans
}

// pairsPerScenario is the number of random pairs of faults per scenario. The second fault is
// injected while the operator recovers from the first.
const pairsPerScenario = 600

// withTwoFaults returns plans with two faults, the second one at most a few reconciliations later.
func (r *reference) withTwoFaults() []plan {
	return r.random("pairs", pairsPerScenario, func(chance *rand.Rand) []point {
		first := 1 + chance.IntN(len(r.trace))
		second := first + 1 + chance.IntN(60)
		return []point{
			{first, pick(chance, faultsOf(r.trace[first-1].call)), pick(chance, repetitions)},
			{second, pick(chance, allFaults), pick(chance, repetitions)},
		}
	})
}

// leaderPlansPerScenario is the number of plans with several leader changes.
const leaderPlansPerScenario = 200

// withLeaderChanges returns plans in which two to four other leaders take over in turn, each during
// a reconciliation of the previous or of the first one.
func (r *reference) withLeaderChanges() []plan {
	if slices.Contains(r.scenario.excludedEvents, leaderChanged) {
		return nil
	}
	return r.random("turns", leaderPlansPerScenario, func(chance *rand.Rand) []point {
		var points []point
		at := 1 + chance.IntN(len(r.trace))
		for range 2 + chance.IntN(3) {
			points = append(points, point{at, pick(chance, []fault{leaderChanged, leaderOverlapped, leaderOverlapped}), once})
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

// failure is a plan with defects.
type failure struct {
	plan     plan
	findings []finding
}

// checkAll runs plans on all processors, and returns those with defects in the order of their
// lines.
func (r *reference) checkAll(plans []plan) []failure {
	var mu sync.Mutex
	var wrong []failure
	work := make(chan plan)
	var workers sync.WaitGroup
	if len(plans) > 0 {
		r.check(plan{scenario: r.scenario.name})
	}
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for p := range work {
				if found := r.check(p); len(found) > 0 {
					mu.Lock()
					wrong = append(wrong, failure{p, found})
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

// withMemory returns plans with single faults and an operator that retains its cache of flag files
// between reconciliations.
func (r *reference) withMemory() []plan {
	var plans []plan
	for i, c := range r.trace {
		if c.kind != configMaps {
			continue
		}
		for _, f := range faultsOf(c.call) {
			plans = append(plans, r.plan(func(p *plan) { p.keepMemory, p.points = true, []point{{i + 1, f, once}} }))
		}
	}
	return plans
}
