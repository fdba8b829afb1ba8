// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// exploredKey returns the key of a World's state with its outstanding faults and what the operator
// reads.
func exploredKey(w *World) stateKey {
	key := w.digest().stateKey()
	if !faultOutstanding(w) && !w.cache.isOld() {
		return key
	}
	h := sha256.New()
	h.Write(key[:])
	for i, p := range w.plan.points {
		if w.injections[i].times == 0 {
			fmt.Fprintln(h, p.fault)
		}
	}
	if w.cache.isOld() {
		fmt.Fprintln(h, w.cache.until.Sub(w.time))
		seen := map[string]int{}
		number := func(credentials []string) {
			for _, c := range credentials {
				if _, ok := seen[c]; !ok {
					seen[c] = len(seen)
				}
				fmt.Fprint(h, seen[c], " ")
			}
		}
		for k := range kinds {
			for _, o := range w.digest().ordered(k) {
				number(w.digest().fingerprintOf(o).credentials)
			}
		}
		for k := range kinds {
			old, current := w.api.at(k, w.cache.states[k]), w.api.now(k)
			fmt.Fprintln(h, len(old))
			for _, o := range old {
				now := find(current, o.GetName())
				same := now != nil && now.GetUID() == o.GetUID()
				fmt.Fprintln(h, same, same && now.GetResourceVersion() == o.GetResourceVersion())
				s := w.digest().fingerprintOf(o)
				fmt.Fprintln(h, s.text)
				number(s.credentials)
			}
		}
	}
	return stateKey(h.Sum(nil))
}

// TestExploredStatesAreEquivalent verifies that the states that an exploration takes for one have the
// same future: after each disturbance, and after the events that follow, they are again the same.
// Except for a cache that lags behind: its past is that of the first story that reached the state.
func TestExploredStatesAreEquivalent(t *testing.T) {
	for _, begin := range exploredWorlds {
		t.Run(begin.name, func(t *testing.T) {
			e := newExploration(begin, defaultStates)
			first := map[stateKey]*World{}
			merged := 0
			e.onState = func(key stateKey, w *World) { first[key] = e.fork(w) }
			e.onMerge = func(key stateKey, again *World) {
				if merged++; merged%mergesPerTest == 0 && first[key] != nil {
					e.compareFutures(t, first[key], again)
				}
			}
			e.explore(1, func(layer) {})
			if merged == 0 {
				t.Error("no state was reached twice")
			}
		})
	}
}

// mergesPerTest is the number of states that were reached again of which one is verified.
const mergesPerTest = 50

// eventsCompared is the number of events after which the futures of two states are compared.
const eventsCompared = 6

// compareFutures compares what follows from two states, without and with each disturbance.
func (e *exploration) compareFutures(t *testing.T, a, b *World) {
	t.Helper()
	none := action{"nothing", func(*World) bool { return true }, func(*World) {}}
	for _, act := range append([]action{none}, e.actions...) {
		if act.name == lagging(maxLag) {
			continue
		}
		if act.possible(a) != act.possible(b) {
			t.Errorf("%q is possible in one of two states that count as one", act.name)
			continue
		}
		if !act.possible(a) {
			continue
		}
		x, y := e.disturbed(a, act), e.disturbed(b, act)
		for i := range eventsCompared {
			if exploredKey(x) != exploredKey(y) {
				t.Errorf("%d events after %q two states differ that counted as one before", i, act.name)
				break
			}
			if x.atRest() {
				break
			}
			x.advance(false)
			y.advance(false)
		}
	}
}
