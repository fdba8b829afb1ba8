// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMutant searches for plans that detect a mutant of the operator. hack/mutants runs it with
// FAULT_MUTANT set. With the unmodified operator it must not find any.
func TestMutant(t *testing.T) {
	mutated := os.Getenv("FAULT_MUTANT") != ""
	timeout := 2 * time.Second
	if mutated {
		timeout = 40 * time.Second
	}
	h := &search{until: cpuTime() + timeout, scope: os.Getenv("FAULT_SCOPE"), oracles: map[string]string{}, remaining: -1}
	h.run(maxRounds)
	if mutated {
		fmt.Println(resultLine(h.oracles))
		return
	}
	for oracle, line := range h.oracles {
		t.Errorf("by %s: %s", oracle, line)
	}
}

// resultLine returns the line that hack/mutants parses.
func resultLine(killers map[string]string) string {
	if len(killers) == 0 {
		return "SURVIVED"
	}
	var parts []string
	for _, oracle := range slices.Sorted(maps.Keys(killers)) {
		parts = append(parts, oracle+" ("+killers[oracle]+")")
	}
	return "KILLED by " + strings.Join(parts, "; ")
}

// plansAfterKill is how many plans are run after a mutant was detected, to find out which other
// oracles detect it.
const plansAfterKill = 60

// search runs plans until one of them detects the mutant.
type search struct {
	// until is the CPU time of the process at which the search ends, so that a busy machine runs as
	// many plans as an idle one.
	until time.Duration
	// scope restricts the plans to a scenario and a family, "scenario/family", and to faults at
	// some calls, "scenario/family/create Job". Empty means all of them.
	scope string
	// oracles has the oracles that detected the mutant, with the plan.
	oracles map[string]string
	// remaining is the number of plans to run after the first detection, negative before it.
	remaining int
}

func (h *search) record(p plan, found []finding) {
	for _, f := range found {
		if h.oracles[f.oracle] == "" {
			h.oracles[f.oracle] = p.String()
		}
	}
	switch {
	case h.remaining > 0:
		h.remaining--
	case h.remaining < 0 && len(h.oracles) > 0:
		h.remaining = plansAfterKill
	}
}

func (h *search) done() bool { return h.remaining == 0 || cpuTime() > h.until }

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// maxRounds is the number of passes through all families, each with other plans.
const maxRounds = 40

// run runs plans within the scope.
func (h *search) run(rounds int) {
	only := strings.SplitN(h.scope+"//", "/", 3)
	calls := strings.Trim(only[2], "/")
	for round := range rounds {
		for _, s := range scenarios {
			if only[0] != "" && only[0] != s.name {
				continue
			}
			r := h.referenceOf(s)
			if len(r.violations) > 0 {
				continue
			}
			for _, sw := range planFamilies {
				if only[1] != "" && only[1] != sw.name {
					continue
				}
				plans := r.faultsAt(calls, sw.plans(r))
				for i := round; i < len(plans) && !h.done(); i += rounds {
					h.record(plans[i], r.check(plans[i]))
				}
			}
			if h.done() {
				return
			}
		}
	}
}

// faultsAt returns the plans whose first fault is at a call.
func (r *reference) faultsAt(call string, plans []plan) []plan {
	if call == "" {
		return plans
	}
	return slices.DeleteFunc(plans, func(p plan) bool {
		return len(p.points) == 0 || p.points[0].call > len(r.trace) || !strings.Contains(r.trace[p.points[0].call-1].String(), call)
	})
}

// mutantReferences caches the reference runs of a mutant.
var mutantReferences = map[string]*reference{}

// referenceOf returns the reference of a scenario, which is itself a plan without faults.
func (h *search) referenceOf(s scenario) *reference {
	if r, ok := mutantReferences[s.name]; ok {
		return r
	}
	r := newReference(s, steadyReconciles)
	mutantReferences[s.name] = r
	var found []finding
	for _, text := range r.violations {
		found = append(found, finding{oracleOf(text), text})
	}
	h.record(plan{scenario: s.name}, found)
	return r
}
