// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

func TestHeldChangeIsTheReasonOfReady(t *testing.T) {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionWithinBudget, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonBudgetExceeded, Message: "The change is held",
	}
	v := summarize(results{cache: cache.Part{Cost: cost.Assessment{Budget: &condition, Held: true}}}, nil)
	if !v.stalled || v.progressing || v.ready.Status != metav1.ConditionFalse || v.ready.Reason != v1alpha1.ReasonBudgetExceeded {
		t.Errorf("got %+v, want Ready False and Stalled for the budget", v)
	}
}

// Without a bill of its own a cache is within any budget; the basis is what that leaves out.
func TestBudgetWithoutABill(t *testing.T) {
	for basis, fc := range map[string]*v1alpha1.FlagCache{
		"An in-cluster Redis has no bill of its own; its share of the cluster's nodes is not counted": aFlagCache(),
		"An external cache is billed to whoever runs it; it is not counted":                           withExternal(aFlagCache()),
	} {
		fc.Spec.Budget = &v1alpha1.BudgetSpec{WhenExceeded: v1alpha1.BudgetRefuse}
		w := aWorld(t, fc)
		w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"host": []byte("cache.example.com")}}
		w.ready().expectSilence()
		w.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		w.expect(v1alpha1.ConditionWithinBudget, metav1.ConditionTrue, v1alpha1.ReasonWithinBudget)
		if diff := cmp.Diff(&v1alpha1.CostStatus{MonthlyUSD: "0.00", Basis: basis}, fc.Status.Cost); diff != "" {
			t.Errorf("cost (-want +got):\n%s", diff)
		}
		fc.Spec.Budget = nil
		w.reconcile()
		if meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionWithinBudget) != nil || fc.Status.Cost != nil {
			t.Error("without a budget there still is a condition or an estimate")
		}
	}
}

func TestSizeHint(t *testing.T) {
	fc := aFlagCache()
	w := aWorld(t, fc).ready()
	expect := func(load observed.Load, want string) {
		t.Helper()
		w.probe.Load = load
		w.reconcile()
		if got := fc.Status.Cache.Hint; !strings.HasPrefix(got, want) || (want == "") != (got == "") {
			t.Errorf("the hint is %q, want %q", got, want)
		}
		w.expectSilence()
	}
	expect(observed.LoadUnknown, "")
	expect(observed.LoadHighMemory, "Memory stays over 80 %: raise spec.cache.inCluster.resources.limits.memory")
	// A restart of the operator changes nothing.
	expect(observed.LoadUnknown, "Memory stays over 80 %")
	expect(observed.LoadNormal, "")
	expect(observed.LoadHighCPU, "CPU stays over 75 % of a core")
	// An in-cluster Redis has no price for its size.
	expect(observed.LoadLow, "")

	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache = withElastiCache(aFlagCache()).Spec.Cache })
	s := w.snapshot()
	for smaller, want := range map[bool]string{true: "a smaller spec.cache.elastiCache.nodeType would do", false: ""} {
		got := sizeHint(observed.NewIndex(s), results{cache: cache.Part{Cost: cost.Assessment{SmallerNodeExists: smaller}}})
		if !strings.HasSuffix(got, want) || (want == "") != (got == "") {
			t.Errorf("a smaller node exists: %v; the hint is %q", smaller, got)
		}
	}
}
