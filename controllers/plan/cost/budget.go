// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cost

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cost/prices"
)

// Assessment is what the caches cost, and whether the budget allows it.
type Assessment struct {
	// Status is the estimate for the status; nil if there is none.
	Status *v1alpha1.CostStatus
	// Budget is the condition WithinBudget; nil without a budget.
	Budget *metav1.Condition
	// Held: the change would exceed the budget, so no part of it may be created.
	Held bool
	// SmallerNodeExists: there is a cheaper node type with less memory.
	SmallerNodeExists bool
}

// Assess estimates the change from the current replication groups to the desired
// ones. While one group replaces another both run and both are billed: desired then
// contains both. A held change leaves the estimate at the current groups.
func Assess(budget *v1alpha1.BudgetSpec, current, desired []Group) Assessment {
	now, then := estimateGroups(prices.ElastiCache(), current), estimateGroups(prices.ElastiCache(), desired)
	a := Assessment{Status: then.status()}
	if budget != nil {
		condition, held := withinBudget(*budget, now, then)
		a.Budget, a.Held = &condition, held
	}
	if a.Held {
		a.Status = now.status()
	}
	a.SmallerNodeExists = slices.ContainsFunc(current, func(g Group) bool {
		return prices.ElastiCache().HasSmaller(g.Region, g.Engine, g.NodeType)
	})
	return a
}

// Monthly is what replication groups cost per month, in cents, as far as prices are known,
// and the prices that are missing.
func Monthly(groups []Group) (cents int64, unknown []string) {
	e := estimateGroups(prices.ElastiCache(), groups)
	return e.cents, e.unknown
}

// AssessFree is for a cache without a bill of its own. Groups that the FlagCache
// used before are billed until they are deleted. Without those and without a budget
// there is no estimate; basis describes what it would leave out.
func AssessFree(budget *v1alpha1.BudgetSpec, remaining []Group, basis string) Assessment {
	switch {
	case len(remaining) > 0:
		return Assess(budget, remaining, remaining)
	case budget == nil:
		return Assessment{}
	}
	nothing := estimate{basis: basis}
	condition, _ := withinBudget(*budget, nothing, nothing)
	return Assessment{Status: nothing.status(), Budget: &condition}
}

// withinBudget compares an estimate with the budget, and reports whether the change
// from the current state is to be held. A change that costs no more than the
// current state is never held: it may be the way back into the budget. Nor is one
// whose known part is within the budget: an unknown price exceeds nothing. But where
// not even the region is known, the user can state it.
func withinBudget(budget v1alpha1.BudgetSpec, now, then estimate) (metav1.Condition, bool) {
	limit := int64(budget.MonthlyUSD) * 100
	refuses := budget.WhenExceeded == v1alpha1.BudgetRefuse
	held := refuses && then.cents > limit && then.cents > now.cents
	switch {
	case refuses && then.regionUnknown && !now.regionUnknown:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonRegionUnknown,
			"The change is held: its cost depends on the region, which is unknown: set cache.elastiCache.region, or set spec.budget.whenExceeded to Warn"), true
	case held:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The change is held: it would cost %s USD a month, %s more than the budget of %s: raise spec.budget.monthlyUSD, or choose a smaller cache",
			then.about(), dollars(then.cents-limit), dollars(limit)), true
	case then.cents > limit:
		return condition(metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded, "The cache costs %s USD a month, %s more than the budget of %s",
			then.about(), dollars(then.cents-limit), dollars(limit)), false
	case len(then.unknown) > 0:
		return condition(metav1.ConditionUnknown, v1alpha1.ReasonPriceUnknown, "The cost cannot be estimated: %s", strings.Join(then.unknown, "; ")), false
	default:
		return condition(metav1.ConditionTrue, v1alpha1.ReasonWithinBudget, "The cache costs %s USD a month, and the budget is %s",
			then.about(), dollars(limit)), false
	}
}

func condition(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionWithinBudget, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// about formats the estimate for a message about a budget.
func (e estimate) about() string {
	if len(e.unknown) > 0 {
		return "at least an estimated " + dollars(e.cents)
	}
	return "an estimated " + dollars(e.cents)
}

func (e estimate) status() *v1alpha1.CostStatus {
	return &v1alpha1.CostStatus{MonthlyUSD: e.usd(), Basis: e.basis}
}
