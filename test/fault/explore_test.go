// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Limits of an exploration, unless EXPLORE_DISTURBANCES and EXPLORE_STATES set others for each World.
const (
	defaultDisturbances = 1
	defaultStates       = 20_000
)

// maxKinds is the number of kinds of violations after which the search ends.
const maxKinds = 20

// exploredWorlds are the Worlds that are explored, in this order.
var exploredWorlds = []beginning{
	{name: "no canary", create: createFlagCache(small(withCanary()))},
	{name: "split", create: createFlagCache(small(withCanary(20)))},
	{name: "first never ready", create: createFlagCache(small(fromBrokenImage(withCanary(20))))},
	{name: "split, inconclusive", create: createFlagCache(small(withInconclusiveRollback(withUnreachableMinimum(withCanary(20)))))},
	{name: "in-cluster", create: createFlagCache(small(inCluster(withCanary(20)))), actions: inClusterActions},
	{name: "ElastiCache", create: createInCloud(small(withElastiCache(withCanary(20)))), inCloud: true, actions: cloudActions},
}

// inCluster lets a FlagCache use a cache in the cluster.
func inCluster(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache = aFlagCache().Spec.Cache
	return fc
}

// TestExplore explores the states of small Worlds.
func TestExplore(t *testing.T) {
	disturbances, states := numberFrom(t, "EXPLORE_DISTURBANCES", defaultDisturbances), numberFrom(t, "EXPLORE_STATES", defaultStates)
	for _, begin := range exploredWorlds {
		t.Run(begin.name, func(t *testing.T) {
			e := newExploration(begin, states)
			e.explore(disturbances, func(l layer) { fmt.Printf("explore: %s: %s\n", begin.name, l) })
			for _, c := range e.counterexamples {
				t.Errorf("%s\n%s", c, strings.Join(c.log, "\n"))
			}
		})
	}
}

// numberFrom returns the number in an environment variable.
func numberFrom(t *testing.T, key string, otherwise int) int {
	t.Helper()
	text := os.Getenv(key)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s must be a positive number", key, text)
	}
	return n
}

// exploration searches the states of a small World that are reached with few disturbances: the
// actions of people and of the cluster, and the faults of the operator's calls. Everything else that
// happens is determined by the state, so that each state has one successor without a disturbance.
//
// The first layer has the states without a disturbance, from the creation of the FlagCache to rest.
// In each state of a layer every disturbance is tried; the next layer has the new states that
// follow, until each of them has come to rest or to a known state. A search that completes a layer has
// seen all orders of so many disturbances with the events of the cluster, of the operator and of the
// clock.
//
// The invariants are checked after each write. Each state must come to rest within a bounded
// number of reconciliations; there the World must serve if it can, and write nothing more.
type exploration struct {
	begin     beginning
	maxStates int
	// known has the number of reconciliations from each known state to rest.
	known map[stateKey]int
	// prints are the fingerprints of objects.
	prints  map[client.Object]fingerprint
	actions []action
	// depth is the length of the longest story, in disturbances and events.
	depth int
	// merges counts the states that were reached again. Unless they are nil, onState is called with
	// each new state and onMerge with each that was reached again.
	merges           int
	onState, onMerge func(stateKey, *World)

	// counterexamples are the shortest stories, one for each kind of violation.
	counterexamples []counterexample
}

// beginning is the World that an exploration begins with.
type beginning struct {
	name string
	// create creates the FlagCache.
	create  step
	inCloud bool
	// actions in addition to exploredActions and faultActions.
	actions []action
}

// layer is the result of the search with a number of disturbances.
type layer struct {
	disturbances, states, depth, merges, counterexamples int
	// left is the number of states whose disturbances were not tried.
	left int
	took time.Duration
}

func (l layer) String() string {
	how := "closure"
	if l.left > 0 {
		how = fmt.Sprintf("stopped at the limit with %d states left to disturb", l.left)
	}
	return fmt.Sprintf("up to %d disturbances: %s, %d states (reached again %d times), up to %d disturbances and events, %d counterexamples, %v",
		l.disturbances, how, l.states, l.merges, l.depth, l.counterexamples, l.took.Round(time.Second))
}

// small returns a FlagCache with one replica, which keeps a predecessor for a short time.
func small(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Replicas = ptr.To[int32](1)
	fc.Spec.Canary.ScaleDownDelay = metav1.Duration{Duration: 2 * tick}
	return fc
}

// node is a state with the story that leads to it: the last disturbance, the state in which that
// happened, and the number of events since.
type node struct {
	world  *World
	parent *node
	act    string
	events int
}

// story returns the disturbances that lead to a state, with the number of events between them.
func (n *node) story() []string {
	var acts []string
	if n.parent != nil {
		acts = append(n.parent.story(), n.act)
	}
	if n.events > 0 {
		acts = append(acts, fmt.Sprintf("%d events", n.events))
	}
	return acts
}

// depth is the number of disturbances and events that lead to a state.
func (n *node) depth() int {
	if n.parent == nil {
		return n.events
	}
	return n.parent.depth() + 1 + n.events
}

func newExploration(begin beginning, maxStates int) *exploration {
	return &exploration{
		begin: begin, maxStates: maxStates, known: map[stateKey]int{}, prints: map[client.Object]fingerprint{},
		actions: slices.Concat(exploredActions, childActions, faultActions, begin.actions),
	}
}

// explore searches the states with up to so many disturbances, and reports each layer. It stops
// when too many states are known, or there are counterexamples of too many kinds.
func (e *exploration) explore(disturbances int, report func(layer)) {
	began := time.Now()
	nodes := e.settle(nil, &node{world: e.created(nil)}, true)
	for n := 0; ; n++ {
		var next []*node
		left := 0
		if n > 0 {
			next, left = e.disturb(nodes, n < disturbances)
			nodes = next
		}
		report(layer{
			disturbances: n, states: len(e.known), depth: e.depth, merges: e.merges, counterexamples: len(e.counterexamples), left: left, took: time.Since(began),
		})
		if n == disturbances || left > 0 || len(e.counterexamples) >= maxKinds {
			return
		}
	}
}

// created returns a World with the new FlagCache, and a log if there is one.
func (e *exploration) created(log *[]string) *World {
	w := newWorld(scenario{name: "explored", steps: []step{e.begin.create}, hasCanary: true, inCloud: e.begin.inCloud, waitsForDeadline: true}, plan{scenario: "explored"})
	w.reduced, w.log = true, log
	w.takeStep()
	return w
}

// replay returns the end of the log of a story.
func (e *exploration) replay(n *node) []string {
	var stages []*node
	for ; n != nil; n = n.parent {
		stages = append(stages, n)
	}
	var log []string
	w := e.created(&log)
	for _, stage := range slices.Backward(stages) {
		if i := slices.IndexFunc(e.actions, func(a action) bool { return a.name == stage.act }); i >= 0 {
			w = e.disturbed(w, e.actions[i])
		}
		for range stage.events {
			w.log = &log
			w.advance(false)
		}
	}
	if len(w.violations) == 0 {
		w.log = &log
		e.checkRested(w)
	}
	return log[max(0, len(log)-maxLines):]
}

// maxLines is the number of lines of a log that are printed.
const maxLines = 120

// disturbed returns a copy of a World in which something has happened.
func (e *exploration) disturbed(from *World, a action) *World {
	w := e.fork(from)
	w.log = from.log
	w.logf("---- %s", a.name)
	w.as("user", func() { a.do(w) })
	return w
}

// disturb tries every disturbance in each state of a layer, and returns the states that follow, if
// they are kept, and the number of states whose disturbances were not tried.
func (e *exploration) disturb(nodes []*node, keep bool) (next []*node, left int) {
	for i, n := range nodes {
		if len(e.known) >= e.maxStates || len(e.counterexamples) >= maxKinds {
			return next, len(nodes) - i
		}
		for _, a := range e.actions {
			if !a.possible(n.world) {
				continue
			}
			next = e.settle(next, &node{world: e.disturbed(n.world, a), parent: n, act: a.name}, keep)
		}
		n.world = nil
	}
	return next, 0
}

// settle lets a World come to rest or to a known state, and adds the states on the way, if they are
// kept.
func (e *exploration) settle(found []*node, n *node, keep bool) []*node {
	var path []stateKey
	var reconciles []int
	w := n.world
	learn := func(rest int) {
		for i, key := range path {
			e.known[key] = w.reconciles - reconciles[i] + rest
		}
	}
	for {
		key := exploredKey(w)
		rest, known := e.known[key]
		switch {
		case len(w.violations) > 0:
		case known && rest == unsettled && slices.Contains(path, key):
			w.violation("L1 convergence: the same states follow again, and it never comes to rest")
		case known && rest >= 0 && len(path) > 0 && w.reconciles-reconciles[0]+rest > 2*maxReconciles:
			w.violation("L1 convergence: not at rest after %d reconciliations", w.reconciles-reconciles[0]+rest)
		case known:
			e.merges++
			if e.onMerge != nil {
				e.onMerge(key, w)
			}
			if rest >= 0 {
				learn(rest)
			}
			return found
		}
		if e.violated(n, w) {
			return found
		}
		if e.onState != nil {
			e.onState(key, w)
		}
		e.known[key] = unsettled
		path, reconciles = append(path, key), append(reconciles, w.reconciles)
		e.depth = max(e.depth, n.depth())
		if keep {
			n.world = w
			found = append(found, n)
		}
		if w.atRest() {
			if e.violated(n, e.rested(w)) {
				return found
			}
			learn(0)
			return e.wait(found, n, w, keep)
		}
		if keep {
			w = e.fork(w)
		}
		w.advance(false)
		n = &node{world: w, parent: n.parent, act: n.act, events: n.events + 1}
	}
}

// longRest is longer than everything that the operator and the cluster wait for at rest.
const longRest = time.Hour

// wait adds the state in which a World has been at rest for long, if that makes a difference.
func (e *exploration) wait(found []*node, n *node, at *World, keep bool) []*node {
	w := e.fork(at)
	w.setTime(w.time.Add(longRest))
	key := exploredKey(w)
	if _, known := e.known[key]; known {
		return found
	}
	e.known[key] = 0
	if keep {
		found = append(found, &node{world: w, parent: n.parent, act: n.act, events: n.events + 1})
	}
	return found
}

// unsettled is the number of reconciliations from a state that has not come to rest yet, or never
// does.
const unsettled = -1

// rested returns a World at rest after its verification.
func (e *exploration) rested(at *World) *World {
	w := e.fork(at)
	e.checkRested(w)
	return w
}

// checkRested verifies that a World at rest serves if it can, and writes nothing more, also after a
// restart of the operator.
func (e *exploration) checkRested(w *World) {
	w.canaryOracle().checkServesIfPossible()
	w.canaryOracle().checkPromotionRecorded()
	if len(w.violations) == 0 {
		w.oracle().checkSteadyState(2, 1)
	}
}

// maxPrints is the number of fingerprints that are kept.
const maxPrints = 200_000

// fork returns a copy of a World in which outstanding faults still happen. It forgets the changes
// that no cache of the operator can lag behind, and faults that are over.
func (e *exploration) fork(from *World) *World {
	w := from.fork(from.plan)
	w.injections = slices.Clone(from.injections)
	if len(e.prints) > maxPrints {
		clear(e.prints)
	}
	w.own = e.prints
	if !w.cache.isOld() {
		w.api.forget(maxLag)
		if !faultOutstanding(w) {
			w.plan, w.injections = plan{scenario: w.plan.scenario}, nil
		}
	}
	return w
}

// checkServesIfPossible verifies L1 at rest: clients get answers if the pods of the revision that
// was promoted last start, or those of the spec, unless that was rejected.
func (w canaryOracle) checkServesIfPossible() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || fc.DeletionTimestamp != nil || fc.Spec.Suspend || w.load().selectsReadyPods() {
		return
	}
	if w.cloud.stopped && find(w.api.now(secrets), name+"-connection") == nil {
		return // pods need a cache to start
	}
	image := fc.Spec.Service.Image
	if image == "" {
		image = firstImage
	}
	requested := fc.Status.Revisions == nil || fc.Status.Revisions.Rejected == ""
	if promoted := w.load().imageOf(w.lastPromoted()); promoted != "" && w.load().starts(promoted) || requested && w.load().starts(image) {
		w.violation("L1 serving: at rest no ready pod is selected, although some could be")
	}
}

// counterexample is a story, what was violated at its end, and the end of its log.
type counterexample struct {
	story     []string
	violation string
	log       []string
}

func (c counterexample) String() string {
	return fmt.Sprintf("%s\n    %s", strings.Join(c.story, ", then "), c.violation)
}

// violated records the first violation of each kind.
func (e *exploration) violated(n *node, w *World) bool {
	if len(w.violations) == 0 {
		return false
	}
	found := counterexample{story: n.story(), violation: w.violations[0]}
	if !slices.ContainsFunc(e.counterexamples, func(c counterexample) bool { return c.kind() == found.kind() }) {
		found.log = e.replay(n)
		e.counterexamples = append(e.counterexamples, found)
	}
	return true
}

// kind is the last disturbance with the text of the violation without its particulars.
func (c counterexample) kind() string {
	text, _, _ := strings.Cut(c.violation, " (call")
	for _, act := range slices.Backward(c.story) {
		if !strings.HasSuffix(act, " events") {
			text += act
			break
		}
	}
	return revisionPattern.ReplaceAllString(text, "REVISION")
}
