// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cost

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cost/prices"
)

// fewPrices is a table to reckon with by hand.
var fewPrices = prices.Table{
	Memory: map[string]string{"cache.t3.micro": "0.5", "cache.r7g.large": "13.07", "cache.t4g.micro": "0.5"},
	Regions: map[string]prices.Region{
		"eu-west-1": {
			Date: "2026-10-02", Source: "a test", Snapshots: "0.085",
			Redis:  map[string]string{"cache.t3.micro": "0.017", "cache.r7g.large": "0.243"},
			Valkey: map[string]string{"cache.t3.micro": "0.0136", "cache.r7g.large": "0.1944"},
		},
		"us-east-1": {Date: "2022-02-13", Source: "a test", Redis: map[string]string{"cache.t3.micro": "0.017"}},
	},
}

func aGroup() Group {
	return Group{Engine: v1alpha1.EngineValkey, NodeType: "cache.t3.micro", Nodes: 2, Region: "eu-west-1"}
}

func (g Group) with(change func(*Group)) Group {
	change(&g)
	return g
}

func TestEstimate(t *testing.T) {
	const ending = "; on-demand prices of 2026-10-02, 730 hours a month; data transfer, reserved nodes, discounts and taxes are not counted"
	large := func(g *Group) { g.NodeType = "cache.r7g.large" }
	for name, c := range map[string]struct {
		groups     []Group
		usd, basis string
	}{
		"nothing":   {nil, "0.00", "There is no replication group"},
		"two nodes": {[]Group{aGroup()}, "19.86", "2 nodes cache.t3.micro for Valkey in eu-west-1" + ending},
		"one node of Redis": {
			[]Group{aGroup().with(func(g *Group) { g.Nodes, g.Engine = 1, v1alpha1.EngineRedis })},
			"12.41", "1 node cache.t3.micro for Redis in eu-west-1" + ending,
		},
		"one snapshot is free": {
			[]Group{aGroup().with(func(g *Group) { g.SnapshotDays = 1 })}, "19.86",
			"2 nodes cache.t3.micro for Valkey in eu-west-1" + ending,
		},
		"further ones are not": { // 283.82 + 4 × 13.07 × 0.085
			[]Group{aGroup().with(large).with(func(g *Group) { g.SnapshotDays = 5 })}, "288.27",
			"2 nodes cache.r7g.large for Valkey in eu-west-1 with 4 snapshots beyond the free one, each as large as a node's memory" + ending,
		},
		"a replacement runs beside what it replaces": {
			[]Group{aGroup(), aGroup().with(large)}, "303.68",
			"2 nodes cache.t3.micro for Valkey in eu-west-1, plus 2 nodes cache.r7g.large for Valkey in eu-west-1" + ending,
		},
		"a region without prices": {
			[]Group{aGroup().with(func(g *Group) { g.Region = "mars-north-1" })}, "",
			"2 nodes cache.t3.micro for Valkey in mars-north-1; no price is known of cache.t3.micro for Valkey in mars-north-1",
		},
		"an engine without a price": {
			[]Group{aGroup().with(func(g *Group) { g.Region = "us-east-1" })}, "",
			"2 nodes cache.t3.micro for Valkey in us-east-1; no price is known of cache.t3.micro for Valkey in us-east-1" + strings.ReplaceAll(ending, "2026-10-02", "2022-02-13"),
		},
		"a region that is not known": {
			[]Group{aGroup().with(func(g *Group) { g.Region = "" })}, "",
			"2 nodes cache.t3.micro for Valkey; the region is not known yet",
		},
		"snapshots without a price": {
			[]Group{{Engine: v1alpha1.EngineRedis, NodeType: "cache.t3.micro", Nodes: 1, Region: "us-east-1", SnapshotDays: 2}}, "",
			"1 node cache.t3.micro for Redis in us-east-1 with 1 snapshot beyond the free one; no price is known of snapshots of cache.t3.micro in us-east-1" + strings.ReplaceAll(ending, "2026-10-02", "2022-02-13"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := estimateGroups(fewPrices, c.groups)
			if got.usd() != c.usd {
				t.Errorf("got %q USD a month, want %q", got.usd(), c.usd)
			}
			if diff := cmp.Diff(c.basis, got.basis); diff != "" {
				t.Errorf("basis (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithinBudget(t *testing.T) {
	cost := func(cents int64, unknown ...string) estimate { return estimate{cents: cents, unknown: unknown} }
	warn := v1alpha1.BudgetSpec{MonthlyUSD: 50, WhenExceeded: v1alpha1.BudgetWarn}
	refuse := v1alpha1.BudgetSpec{MonthlyUSD: 50, WhenExceeded: v1alpha1.BudgetRefuse}
	nowhere := estimateGroups(fewPrices, []Group{aGroup().with(func(g *Group) { g.Region = "" })})
	const noPrice = "no price is known of cache.x for Valkey in eu-west-1"
	for name, c := range map[string]struct {
		budget    v1alpha1.BudgetSpec
		now, then estimate
		status    metav1.ConditionStatus
		reason    string
		message   string
		held      bool
	}{
		"within": {
			warn, cost(0), cost(2482), metav1.ConditionTrue, v1alpha1.ReasonWithinBudget,
			"The cache costs an estimated 24.82 USD a month, and the budget is 50.00", false,
		},
		"to the cent": {
			refuse, cost(0), cost(5000), metav1.ConditionTrue, v1alpha1.ReasonWithinBudget,
			"The cache costs an estimated 50.00 USD a month, and the budget is 50.00", false,
		},
		"a cent over, with a warning": {
			warn, cost(0), cost(5001), metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The cache costs an estimated 50.01 USD a month, 0.01 more than the budget of 50.00", false,
		},
		"over, and refused": {
			refuse, cost(2482), cost(7446), metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The change is held: it would cost an estimated 74.46 USD a month, 24.46 more than the budget of 50.00: raise spec.budget.monthlyUSD, or choose a smaller cache", true,
		},
		"over already, and nothing changes": {
			refuse, cost(7446), cost(7446), metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The cache costs an estimated 74.46 USD a month, 24.46 more than the budget of 50.00", false,
		},
		"over, and on the way back": {
			refuse, cost(9000), cost(7446), metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The cache costs an estimated 74.46 USD a month, 24.46 more than the budget of 50.00", false,
		},
		"unknown": {
			refuse, cost(0), cost(0, noPrice), metav1.ConditionUnknown, v1alpha1.ReasonPriceUnknown,
			"The cost cannot be estimated: " + noPrice, false,
		},
		"unknown, because the region is": {
			refuse, cost(0), nowhere, metav1.ConditionFalse, v1alpha1.ReasonRegionUnknown,
			"The change is held: its cost depends on the region, which is unknown: set cache.elastiCache.region, or set spec.budget.whenExceeded to Warn", true,
		},
		"the region is unknown, with Warn": {
			warn, cost(0), nowhere, metav1.ConditionUnknown, v1alpha1.ReasonPriceUnknown, "The cost cannot be estimated: the region is not known yet", false,
		},
		"the region of the existing group is not reported yet": {
			refuse, nowhere, nowhere, metav1.ConditionUnknown, v1alpha1.ReasonPriceUnknown, "The cost cannot be estimated: the region is not known yet", false,
		},
		"what is known is over": {
			refuse, cost(0), cost(7446, noPrice), metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The change is held: it would cost at least an estimated 74.46 USD a month, 24.46 more than the budget of 50.00: raise spec.budget.monthlyUSD, or choose a smaller cache", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, held := withinBudget(c.budget, c.now, c.then)
			want := metav1.Condition{Type: v1alpha1.ConditionWithinBudget, Status: c.status, Reason: c.reason, Message: c.message}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("condition (-want +got):\n%s", diff)
			}
			if held != c.held {
				t.Errorf("held is %v, want %v", held, c.held)
			}
		})
	}
}

// A held change leaves the estimate at the current groups: no part of it is created.
func TestEstimateOfAHeldChange(t *testing.T) {
	budget := &v1alpha1.BudgetSpec{MonthlyUSD: 25, WhenExceeded: v1alpha1.BudgetRefuse}
	now, then := []Group{aGroup()}, []Group{aGroup(), aGroup()}
	a := Assess(budget, now, then)
	if !a.Held || a.Status.MonthlyUSD != estimateGroups(prices.ElastiCache(), now).usd() {
		t.Errorf("held is %v at %s USD a month, want the change held and the current groups estimated", a.Held, a.Status.MonthlyUSD)
	}
	budget.WhenExceeded = v1alpha1.BudgetWarn
	a = Assess(budget, now, then)
	if a.Held || a.Status.MonthlyUSD != estimateGroups(prices.ElastiCache(), then).usd() {
		t.Errorf("held is %v at %s USD a month, want a warning and both groups estimated", a.Held, a.Status.MonthlyUSD)
	}
}

func TestSmallerNodeExists(t *testing.T) {
	for nodeType, want := range map[string]bool{"cache.r7g.large": true, "cache.t4g.micro": false} {
		g := aGroup().with(func(g *Group) { g.NodeType, g.Region = nodeType, "us-east-1" })
		if got := Assess(nil, []Group{g}, []Group{g}).SmallerNodeExists; got != want {
			t.Errorf("%s: a smaller node exists: %v", nodeType, got)
		}
	}
}
