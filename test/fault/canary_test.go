// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"testing"

	operatorplan "github.com/flagcache/flagcache/controllers/plan"
)

// TestCanaries plays the stories of canaries with nothing going wrong: the
// invariants hold after every write, the end is the right one, and then it is
// silent.
func TestCanaries(t *testing.T) {
	ends := map[string]operatorplan.Outcome{
		"canaryPromoted": operatorplan.Promoted, "canaryInTwoSteps": operatorplan.Promoted, "canaryRolledBack": operatorplan.RolledBack,
	}
	for _, s := range canaries {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(s, plan{scenario: s.name})
			var stable, candidate string
			first := w.scenario.steps[1].do
			w.scenario.steps = []step{s.steps[0], {s.steps[1].name, func(w *World) { stable = w.serving(); first(w) }}}
			w.run(silentLooksThorough)
			for _, text := range w.broken {
				t.Error(text)
			}
			for revision := range w.answered {
				if revision != "" && revision != stable {
					candidate = revision
				}
			}
			record, _ := w.recordOf(candidate)
			if record.Outcome != ends[s.name] {
				t.Errorf("revision %s is on record as %q, want %q", candidate, record.Outcome, ends[s.name])
			}
			if served := w.serving() == candidate; served != (ends[s.name] == operatorplan.Promoted) {
				t.Errorf("clients are served by revision %s; the candidate is %s", w.serving(), candidate)
			}
		})
	}
}
