// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// budgets are the revisions with a disruption budget, sorted. It checks that each budget
// counts pods of its revision only.
func (sim *simulation) budgets() []string {
	var revisions []string
	for _, budget := range observed.All[*policyv1.PodDisruptionBudget](sim.index()) {
		revision := budget.Labels[v1alpha1.LabelRevision]
		if budget.Spec.Selector.MatchLabels[v1alpha1.LabelRevision] != revision {
			sim.t.Errorf("the budget of %s counts pods of %v", sim.name(revision), budget.Spec.Selector.MatchLabels)
		}
		revisions = append(revisions, sim.name(revision))
	}
	slices.Sort(revisions)
	return revisions
}

func (sim *simulation) expectBudgets(when string, want ...string) {
	sim.t.Helper()
	if got := sim.budgets(); !slices.Equal(got, want) {
		sim.t.Errorf("%s: budgets of %v, want those of %v", when, got, want)
	}
}

// TestDisruptionBudgetsOfServingRevisions: with one budget for all pods, those of a
// release that does not start use it up, and no node can be drained.
func TestDisruptionBudgetsOfServingRevisions(t *testing.T) {
	sim := newSimulation(t, withCanary(aFlagCache(), step(20, 5*time.Minute)))
	stale := &policyv1.PodDisruptionBudget{ObjectMeta: observed.ChildMeta(sim.fc, "demo", v1alpha1.ComponentService)}
	sim.put(stale) // of an earlier version of the operator
	sim.podsStuck = true
	sim.change(fromImage("flag-service:broken"))
	sim.expectBudgets("the candidate does not start", "A")

	sim.candidateStuck()
	sim.until("the rollback", sim.rolledBack)
	sim.expectBudgets("it was rolled back", "A")

	sim.podsStuck = false
	sim.change(fromImage("flag-service:v2"))
	candidate := sim.candidate()
	sim.until("the first step", func() bool { return sim.weight() == 20 })
	sim.expectBudgets("another one has a share", "A", "C")
	sim.until("the promotion", sim.promoted(candidate))
	sim.tick()
	sim.expectBudgets("it was promoted", "C")
}
