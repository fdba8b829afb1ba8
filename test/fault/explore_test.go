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

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// defaultStates is how many states are explored without EXPLORE_STATES, for each World.
const defaultStates = 100

// maxKinds is the number of kinds of violations after which the search ends.
const maxKinds = 20

// TestExplore explores the states of small Worlds, one for each type of traffic.
func TestExplore(t *testing.T) {
	states := defaultStates
	if text := os.Getenv("EXPLORE_STATES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("EXPLORE_STATES=%s must be a number", text)
		}
		states = n
	}
	for name, begin := range map[string]beginning{
		"split":                {create: createFlagCache(small(withCanary(20)))},
		"split, at rest":       {create: createFlagCache(small(withCanary(20))), atRest: true},
		"no canary":            {create: createFlagCache(small(withCanary()))},
		"first never ready":    {create: createFlagCache(small(fromBrokenImage(withCanary(20))))},
		"split, inconclusive":  {create: createFlagCache(small(withInconclusiveRollback(withUnreachableMinimum(withCanary(20)))))},
		"ElastiCache, at rest": {create: createInCloud(small(withElastiCache(withCanary(20)))), atRest: true, inCloud: true, actions: cloudActions},
	} {
		t.Run(name, func(t *testing.T) {
			e := explore(begin, states, maxKinds)
			for _, c := range e.counterexamples {
				t.Errorf("%s", c)
			}
			how := fmt.Sprintf("the limit, %d not searched", e.left)
			if e.left == 0 {
				how = "closure"
			}
			fmt.Printf("explore: %s: %d states (%s), up to %d actions and events, at most %d of them actions, %d counterexamples\n",
				name, e.states, how, e.depth, maxPeople, len(e.counterexamples))
		})
	}
}

// exploration searches the states of a small World breadth first: in each of them it tries every
// action of people and of the cluster, and lets the next event happen. It checks the invariants
// after each write, and from each state that nothing further is done the World comes to rest,
// serves if it can, and writes nothing more. As it is breadth first, a counterexample is one of the
// shortest.
type exploration struct {
	// states is the number of different states that were found, and depth the length of the longest
	// story.
	states, depth int
	// left is the number of states whose actions were not tried.
	left int
	// counterexamples are the shortest stories, one for each kind of violation.
	counterexamples []counterexample

	known   map[stateKey]bool
	memo    *memo
	actions []action
}

// beginning is the World that an exploration begins with.
type beginning struct {
	// create creates the FlagCache.
	create step
	// atRest lets the World come to rest first, so that stories are about what exists.
	atRest, inCloud bool
	// actions in addition to exploredActions.
	actions []action
}

// small returns a FlagCache with one replica.
func small(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Service.Replicas = ptr.To[int32](1)
	return fc
}

// counterexample is a story, and what was violated at its end.
type counterexample struct {
	story     []string
	violation string
}

func (c counterexample) String() string {
	return fmt.Sprintf("%s\n    %s", strings.Join(c.story, ", then "), c.violation)
}

// node is a state with the story that leads to it.
type node struct {
	world *World
	story []string
}

// action is something that people or the cluster may do at any time.
type action struct {
	name string
	// possible reports whether it would change something.
	possible func(*World) bool
	do       func(*World)
}

// maxPeople is the number of actions of people and of the cluster in a story.
const maxPeople = 3

// exploredActions are the actions that are tried in each state. "Next event" is added to them.
var exploredActions = []action{
	applyImage("flag-service:v2"),
	applyImage("flag-service:" + unstartableImage),
	applyImage(""),
	{"delete the stable Deployment", stableExists, func(w *World) { deleteStable.do(w) }},
	{"delete the Service", serviceExists, func(w *World) { w.user().userDeletes(services, name) }},
	{"select revision deadbeef", serviceExists, func(w *World) { selectRevision("deadbeef").do(w) }},
	{"add a label to the selector", serviceExists, func(w *World) {
		updateAs(&w.api, services, name, func(s *corev1.Service) { s.Spec.Selector["release"] = "blue" })
	}},
	{"remove the label of the stable Deployment", stableExists, func(w *World) { relabelStable("").do(w) }},
	{"lose the pods of the first revision", func(w *World) bool { return w.lostImage == "" }, func(w *World) { losePods.do(w) }},
	{"let the pods return", func(w *World) bool { return w.lostImage != "" }, func(w *World) { returnPods.do(w) }},
	annotated("promote", v1alpha1.AnnotationPromote),
	annotated("abort", v1alpha1.AnnotationAbort),
	{"lose the records", func(w *World) bool { return len(w.api.now(controllerRevisions)) > 0 }, func(w *World) {
		for _, o := range slices.Clone(w.api.now(controllerRevisions)) {
			w.user().userDeletes(controllerRevisions, o.GetName())
		}
	}},
}

// applyImage applies a spec with another image.
func applyImage(image string) action {
	return action{"apply image " + image, func(w *World) bool {
		fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
		return ok && fc.Spec.Service.Image != image
	}, func(w *World) { newImage(image).do(w) }}
}

// annotated sets an annotation with the candidate.
func annotated(what, key string) action {
	return action{what, func(w *World) bool {
		fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
		return ok && fc.Status.Revisions != nil && fc.Status.Revisions.Candidate != "" && fc.Annotations[key] != fc.Status.Revisions.Candidate
	}, func(w *World) {
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { setAnnotation(fc, key, fc.Status.Revisions.Candidate) })
	}}
}

func serviceExists(w *World) bool { return find(w.api.now(services), name) != nil }

func stableExists(w *World) bool {
	return find(w.api.now(deployments), name+"-"+w.canaryOracle().stable()) != nil
}

// explore searches until all states are known, or so many, or there is a counterexample of so many
// kinds.
func explore(begin beginning, maxStates, maxKinds int) *exploration {
	e := &exploration{known: map[stateKey]bool{}, memo: &memo{states: map[stateKey]future{}}, actions: slices.Concat(exploredActions, faultActions, begin.actions)}
	start := newWorld(scenario{name: "explored", steps: []step{begin.create}, hasCanary: true, inCloud: begin.inCloud, waitsForDeadline: true}, plan{scenario: "explored"})
	start.takeStep()
	if begin.atRest {
		start.runUntilRest(false)
	}
	queue := []node{{world: start}}
	e.known[exploredKey(start)] = true
	for len(queue) > 0 && e.states < maxStates && len(e.counterexamples) < maxKinds {
		n := queue[0]
		queue = queue[1:]
		queue = append(queue, e.expand(n)...)
	}
	e.left = len(queue)
	return e
}

// expand returns the unknown states that follow from a state.
func (e *exploration) expand(n node) []node {
	var found []node
	for _, a := range e.actions {
		if n.people() < maxPeople && a.possible(n.world) {
			found = e.follow(found, n, a.name, func(w *World) {
				w.logf("---- %s", a.name)
				w.as("user", func() { a.do(w) })
			})
		}
	}
	if !n.world.atRest() {
		found = e.follow(found, n, nextEvent, func(w *World) { w.advance(false) })
	}
	return found
}

// nextEvent is the name of what happens when nobody does anything.
const nextEvent = "next event"

// people is the number of actions in a story that are not the next event.
func (n node) people() int {
	return len(n.story) - len(slices.DeleteFunc(slices.Clone(n.story), func(s string) bool { return s != nextEvent }))
}

// follow adds the state after an action, unless it is known.
func (e *exploration) follow(found []node, n node, name string, do func(*World)) []node {
	w := forkWithFaults(n.world)
	do(w)
	next := node{world: w, story: append(slices.Clone(n.story), name)}
	if e.violated(next, w) {
		return found
	}
	key := exploredKey(w)
	if e.known[key] {
		return found
	}
	e.known[key] = true
	e.states++
	e.depth = max(e.depth, len(next.story))
	if e.violated(next, e.leftAlone(w)) {
		return found
	}
	return append(found, next)
}

// leftAlone runs a World until it is at rest without further actions. It ends early in a state from
// which that is known to succeed.
func (e *exploration) leftAlone(from *World) *World {
	w := forkWithFaults(from)
	w.memo, w.step = e.memo, len(w.scenario.steps)
	w.runUntilRest(false)
	if w.finished || len(w.violations) > 0 {
		return w
	}
	w.canaryOracle().checkServesIfPossible()
	w.canaryOracle().checkPromotionRecorded()
	w.effort, w.final = effort{reconciles: w.reconciles, calls: w.calls}, w.digest().normalized()
	visited := w.visited
	if len(w.violations) == 0 {
		w.oracle().checkSteadyState(2)
	}
	if len(w.violations) == 0 {
		w.visited = visited
		e.memo.learn(w)
	}
	return w
}

// checkServesIfPossible verifies L1 at rest: clients get answers if the pods of the revision that
// was promoted last start, or those of the spec, unless that was rejected.
func (w canaryOracle) checkServesIfPossible() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || w.load().selectsReadyPods() {
		return
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

// violated records the first violation of each kind.
func (e *exploration) violated(n node, w *World) bool {
	if len(w.violations) == 0 {
		return false
	}
	kind := kindOfViolation(w.violations[0])
	if !slices.ContainsFunc(e.counterexamples, func(c counterexample) bool { return kindOfViolation(c.violation) == kind && c.lastAct() == n.lastAct() }) {
		e.counterexamples = append(e.counterexamples, counterexample{n.acts(), w.violations[0]})
	}
	return true
}

// kindOfViolation is the text of a violation without its particulars.
func kindOfViolation(text string) string {
	text, _, _ = strings.Cut(text, " (call")
	return revisionPattern.ReplaceAllString(text, "REVISION")
}

// acts is the story with the number of events in place of each.
func (n node) acts() []string {
	var acts []string
	events := 0
	flush := func() {
		if events > 0 {
			acts = append(acts, fmt.Sprintf("%d events", events))
		}
		events = 0
	}
	for _, s := range n.story {
		if s == nextEvent {
			events++
			continue
		}
		flush()
		acts = append(acts, s)
	}
	flush()
	return acts
}

// lastAct is the last action of a story that is not the next event.
func (n node) lastAct() string { return counterexample{story: n.acts()}.lastAct() }

func (c counterexample) lastAct() string {
	for _, s := range slices.Backward(c.story) {
		if !strings.HasSuffix(s, " events") {
			return s
		}
	}
	return ""
}
