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

// TestMutant looks for what tells a mutant of the operator from the operator. It
// does so when hack/mutants runs it, with FAULT_MUTANT set; on the operator as it
// is there must be nothing to find.
func TestMutant(t *testing.T) {
	hunted := os.Getenv("FAULT_MUTANT") != ""
	patience := 2 * time.Second
	if hunted {
		patience = 40 * time.Second
	}
	h := &hunter{until: cpuTime() + patience, only: os.Getenv("FAULT_HUNT"), killers: map[string]string{}, left: -1}
	h.hunt(rounds)
	if hunted {
		fmt.Println(verdictOn(h.killers))
		return
	}
	for oracle, line := range h.killers {
		t.Errorf("by %s: %s", oracle, line)
	}
}

// verdictOn is the line that hack/mutants reads.
func verdictOn(killers map[string]string) string {
	if len(killers) == 0 {
		return "SURVIVED"
	}
	var parts []string
	for _, oracle := range slices.Sorted(maps.Keys(killers)) {
		parts = append(parts, oracle+" ("+killers[oracle]+")")
	}
	return "KILLED by " + strings.Join(parts, "; ")
}

// afterKill is how many more plans a mutant gets after it was found out, to see
// which other oracles find it too.
const afterKill = 60

// hunter plays plans until something is found.
type hunter struct {
	// until is the CPU time of this process at which the hunt ends: a busy machine takes
	// no plans away.
	until time.Duration
	// only is the scenario and the sweep to play, "scenario/sweep", and the calls at
	// which something goes wrong, "scenario/sweep/create Job"; empty means a mixture.
	only string
	// killers are the oracles that found something, and by which plan.
	killers map[string]string
	// left is how many plans follow after the first find, negative before it.
	left int
}

func (h *hunter) note(p plan, found []finding) {
	for _, f := range found {
		if h.killers[f.oracle] == "" {
			h.killers[f.oracle] = p.String()
		}
	}
	switch {
	case h.left > 0:
		h.left--
	case h.left < 0 && len(h.killers) > 0:
		h.left = afterKill
	}
}

func (h *hunter) done() bool { return h.left == 0 || cpuTime() > h.until }

// cpuTime is how long this process has been running on a CPU.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// rounds are how often a hunt goes through its plans, each time with others.
const rounds = 40

// hunt plays a mixture of plans, or those that the mutant's patch names.
func (h *hunter) hunt(rounds int) {
	only := strings.SplitN(h.only+"//", "/", 3)
	calls := strings.Trim(only[2], "/")
	for round := range rounds {
		for _, s := range scenarios {
			if only[0] != "" && only[0] != s.name {
				continue
			}
			r := h.reference(s)
			if len(r.broken) > 0 {
				continue
			}
			for _, sw := range sweeps {
				if only[1] != "" && only[1] != sw.name {
					continue
				}
				plans := r.at(calls, sw.plans(r))
				for i := round; i < len(plans) && !h.done(); i += rounds {
					h.note(plans[i], r.play(plans[i]))
				}
			}
			if h.done() {
				return
			}
		}
	}
}

// at are the plans in which something goes wrong at a call.
func (r *reference) at(call string, plans []plan) []plan {
	if call == "" {
		return plans
	}
	return slices.DeleteFunc(plans, func(p plan) bool {
		return len(p.points) == 0 || p.points[0].call > len(r.trace) || !strings.Contains(r.trace[p.points[0].call-1].String(), call)
	})
}

// prey are the references of a hunt.
var prey = map[string]*reference{}

// reference is the reference of a scenario, itself a plan in which nothing goes
// wrong.
func (h *hunter) reference(s scenario) *reference {
	if r, ok := prey[s.name]; ok {
		return r
	}
	r := refer(s, silentLooks)
	prey[s.name] = r
	var found []finding
	for _, text := range r.broken {
		found = append(found, finding{oracleOf(text), text})
	}
	h.note(plan{scenario: s.name}, found)
	return r
}
