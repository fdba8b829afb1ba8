// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/prices"
)

// hoursPerMonth is how many hours AWS counts a month as in its own estimates.
const hoursPerMonth = 730

// costPart is what the cache costs a month, and whether it may.
type costPart struct {
	// estimate of what runs or is about to; nil where nothing is said about it.
	estimate *estimate
	// budget is the condition WithinBudget; nil where there is no budget.
	budget *metav1.Condition
	// held: the change would exceed the budget, so nothing of it may be made.
	held bool
	// smaller: there is a cheaper node type with less memory.
	smaller bool
}

// billedGroup is a replication group as AWS bills it.
type billedGroup struct {
	engine   v1alpha1.Engine
	nodeType string
	nodes    int32
	// region is empty while it is not known.
	region string
	// snapshotDays is for how many days a daily snapshot is kept; 0 is none.
	snapshotDays int32
}

// estimate is what a month costs, in whole cents, so that what is compared is what
// is shown.
type estimate struct {
	cents int64
	// basis says what the estimate is made of.
	basis string
	// unknown says which prices are missing; the cents are then the rest, a lower
	// bound.
	unknown []string
	// unplaced: the region of a group is not known.
	unplaced bool
}

// usd writes the estimate as it stands in the status: "24.82", or "" where a price
// is missing.
func (e estimate) usd() string {
	if len(e.unknown) > 0 {
		return ""
	}
	return dollars(e.cents)
}

func dollars(cents int64) string {
	return fmt.Sprintf("%d.%02d", cents/100, cents%100)
}

// planCost estimates a change from the replication groups that there are to those
// that there are to be. While one replaces another both run, and both are paid for:
// they are then both in wanted. A change that is held leaves the estimate at what
// there is.
func planCost(s *observed.Index, current, wanted []billedGroup) costPart {
	now, then := estimateGroups(prices.ElastiCache(), current), estimateGroups(prices.ElastiCache(), wanted)
	part := costPart{estimate: &then}
	if budget := s.FlagCache.Spec.Budget; budget != nil {
		condition, held := withinBudget(*budget, now, then)
		part.budget, part.held = &condition, held
	}
	if part.held {
		part.estimate = &now
	}
	part.smaller = slices.ContainsFunc(current, func(g billedGroup) bool {
		return prices.ElastiCache().HasSmaller(g.region, g.engine, g.nodeType)
	})
	return part
}

// planFreeCost is for a cache that the cloud sends no bill for. Without a budget
// nobody asks. Groups of the cache before are paid for until they are gone.
func planFreeCost(s *observed.Index, basis string) costPart {
	var left []billedGroup
	for _, group := range observed.All[*ack.ReplicationGroup](s) {
		left = append(left, billedAsSeen(group))
	}
	if len(left) > 0 {
		return planCost(s, left, left)
	}
	budget := s.FlagCache.Spec.Budget
	if budget == nil {
		return costPart{}
	}
	nothing := estimate{basis: basis}
	condition, _ := withinBudget(*budget, nothing, nothing)
	return costPart{estimate: &nothing, budget: &condition}
}

// What an estimate of nothing does not count.
const (
	basisInCluster = "An in-cluster Redis has no bill of its own; its share of the cluster's nodes is not counted"
	basisExternal  = "An external cache is paid for by whoever runs it; it is not counted"
)

// notCounted ends the basis of every estimate of replication groups.
const notCounted = "data transfer, reserved nodes, discounts and taxes are not counted"

// estimateGroups adds up what groups cost a month.
func estimateGroups(table prices.Table, groups []billedGroup) estimate {
	if len(groups) == 0 {
		return estimate{basis: "There is no replication group"}
	}
	total := new(big.Rat)
	var e estimate
	var terms, dates []string
	for _, g := range groups {
		cost, term, missing := g.monthly(table)
		total.Add(total, cost)
		terms = append(terms, term)
		e.unknown = append(e.unknown, missing...)
		e.unplaced = e.unplaced || g.region == ""
		if date := table.Regions[g.region].Date; date != "" && !slices.Contains(dates, date) {
			dates = append(dates, date)
		}
	}
	e.cents = cents(total)
	e.unknown = unique(e.unknown)
	e.basis = strings.Join(terms, ", and beside it ")
	if len(e.unknown) > 0 {
		e.basis += "; " + strings.Join(e.unknown, "; ")
	}
	if len(dates) > 0 {
		e.basis += fmt.Sprintf("; on-demand prices of %s, %d hours a month; %s", strings.Join(dates, " and "), hoursPerMonth, notCounted)
	}
	return e
}

// monthly is what a group costs a month as far as prices are known, in words what
// that is, and which prices are missing.
func (g billedGroup) monthly(table prices.Table) (cost *big.Rat, term string, missing []string) {
	term = fmt.Sprintf("%s %s for %s", count(g.nodes, "node"), g.nodeType, g.engine)
	if g.region == "" {
		return new(big.Rat), term, []string{"the region is not known yet"}
	}
	term += " in " + g.region
	region := table.Regions[g.region]
	cost = new(big.Rat)
	if hourly, ok := region.Node(g.engine, g.nodeType); ok {
		cost.Mul(hourly, big.NewRat(int64(g.nodes)*hoursPerMonth, 1))
	} else {
		missing = append(missing, fmt.Sprintf("no price is known of %s for %s in %s", g.nodeType, g.engine, g.region))
	}
	// One snapshot of each group is free.
	paid := g.snapshotDays - 1
	if paid <= 0 {
		return cost, term, missing
	}
	term += fmt.Sprintf(" with %s beyond the free one", count(paid, "snapshot"))
	perGiB, priced := region.Snapshot()
	size, known := table.NodeMemory(g.nodeType)
	if !priced || !known {
		return cost, term, append(missing, fmt.Sprintf("no price is known of snapshots of %s in %s", g.nodeType, g.region))
	}
	// How large a snapshot will be nobody knows; it is no larger than the memory.
	snapshots := new(big.Rat).Mul(perGiB, size)
	cost.Add(cost, snapshots.Mul(snapshots, big.NewRat(int64(paid), 1)))
	return cost, term + ", each as large as a node's memory", missing
}

func count(n int32, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// cents rounds an amount of dollars half up.
func cents(usd *big.Rat) int64 {
	const half = 2
	doubled := new(big.Rat).Mul(usd, big.NewRat(100*half, 1))
	doubled.Add(doubled, big.NewRat(1, 1))
	return new(big.Int).Quo(doubled.Num(), new(big.Int).Mul(doubled.Denom(), big.NewInt(half))).Int64()
}

func unique(texts []string) []string {
	var seen []string
	for _, t := range texts {
		if !slices.Contains(seen, t) {
			seen = append(seen, t)
		}
	}
	return seen
}

// withinBudget compares an estimate with the budget, and tells whether the change
// from what there is now is to be held. A change that costs no more than what there
// is now is never held: it may be the way back into the budget. Nor is one whose
// known part is within the budget: an unknown price exceeds nothing. But where not
// even the region is known, a person can help.
func withinBudget(budget v1alpha1.BudgetSpec, now, then estimate) (metav1.Condition, bool) {
	const kind = v1alpha1.ConditionWithinBudget
	limit := int64(budget.MonthlyUSD) * 100
	refuses := budget.WhenExceeded == v1alpha1.BudgetRefuse
	held := refuses && then.cents > limit && then.cents > now.cents
	switch {
	case refuses && then.unplaced && !now.unplaced:
		return conditions.False(kind, v1alpha1.ReasonRegionUnknown,
			"The change is held: what it would cost depends on the region, which nobody says: set cache.elastiCache.region, or spec.budget.whenExceeded to Warn"), true
	case held:
		return conditions.False(kind, v1alpha1.ReasonBudgetExceeded,
			"The change is held: it would cost %s USD a month, %s more than the budget of %s: raise spec.budget.monthlyUSD, or ask for less",
			then.about(), dollars(then.cents-limit), dollars(limit)), true
	case then.cents > limit:
		return conditions.False(kind, v1alpha1.ReasonBudgetExceeded, "The cache costs %s USD a month, %s more than the budget of %s",
			then.about(), dollars(then.cents-limit), dollars(limit)), false
	case len(then.unknown) > 0:
		return conditions.Unknown(kind, v1alpha1.ReasonPriceUnknown, "The cost cannot be estimated: %s", strings.Join(then.unknown, "; ")), false
	default:
		return conditions.True(kind, v1alpha1.ReasonWithinBudget, "The cache costs %s USD a month, and the budget is %s",
			then.about(), dollars(limit)), false
	}
}

// about writes the estimate for a sentence about a budget.
func (e estimate) about() string {
	if len(e.unknown) > 0 {
		return "at least an estimated " + dollars(e.cents)
	}
	return "an estimated " + dollars(e.cents)
}

// status is the estimate as it stands in the status; nil where there is none.
func (p costPart) status() *v1alpha1.CostStatus {
	if p.estimate == nil {
		return nil
	}
	return &v1alpha1.CostStatus{MonthlyUSD: p.estimate.usd(), Basis: p.estimate.basis}
}

// sizeHint says what the size of the cache should be looked at for, "" for nothing.
// While the probe does not know, as for a day after a restart of the operator, what
// was said about the same cache stands.
func sizeHint(s *observed.Index, p parts) string {
	old := s.FlagCache.Status.Cache
	switch s.Probe.Load {
	case observed.LoadHighMemory:
		return "Memory stays over 80 %: " + moreMemory[s.FlagCache.Spec.Cache.Type]
	case observed.LoadHighCPU:
		return "CPU stays over 75 % of a core: " + moreCPU[s.FlagCache.Spec.Cache.Type]
	case observed.LoadLow:
		if p.cache.cost.smaller {
			return "Memory stays under 20 %, CPU under 10 % of a core: a smaller spec.cache.elastiCache.nodeType would do"
		}
	case observed.LoadUnknown:
		if old != nil && p.connection.InUse != nil && old.Endpoint == p.connection.InUse.Endpoint() {
			return old.Hint
		}
	}
	return ""
}

// What can be done about a cache that is too small.
var (
	moreMemory = map[v1alpha1.CacheType]string{
		v1alpha1.CacheInCluster:   "raise spec.cache.inCluster.resources.limits.memory",
		v1alpha1.CacheElastiCache: "choose a spec.cache.elastiCache.nodeType with more",
		v1alpha1.CacheExternal:    "see what fills it, or ask for more",
	}
	moreCPU = map[v1alpha1.CacheType]string{
		v1alpha1.CacheInCluster:   "see what else uses it, or move to a cache of another type",
		v1alpha1.CacheElastiCache: "see what else uses it, or choose a larger spec.cache.elastiCache.nodeType",
		v1alpha1.CacheExternal:    "see what else uses it, or ask for more",
	}
)
