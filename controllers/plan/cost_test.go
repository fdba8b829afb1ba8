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
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/prices"
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

func aGroup() billedGroup {
	return billedGroup{engine: v1alpha1.EngineValkey, nodeType: "cache.t3.micro", nodes: 2, region: "eu-west-1"}
}

func (g billedGroup) with(change func(*billedGroup)) billedGroup {
	change(&g)
	return g
}

func TestEstimate(t *testing.T) {
	const ending = "; on-demand prices of 2026-10-02, 730 hours a month; data transfer, reserved nodes, discounts and taxes are not counted"
	large := func(g *billedGroup) { g.nodeType = "cache.r7g.large" }
	for name, c := range map[string]struct {
		groups     []billedGroup
		usd, basis string
	}{
		"nothing":   {nil, "0.00", "There is no replication group"},
		"two nodes": {[]billedGroup{aGroup()}, "19.86", "2 nodes cache.t3.micro for Valkey in eu-west-1" + ending},
		"one node of Redis": {
			[]billedGroup{aGroup().with(func(g *billedGroup) { g.nodes, g.engine = 1, v1alpha1.EngineRedis })},
			"12.41", "1 node cache.t3.micro for Redis in eu-west-1" + ending,
		},
		"one snapshot is free": {
			[]billedGroup{aGroup().with(func(g *billedGroup) { g.snapshotDays = 1 })}, "19.86",
			"2 nodes cache.t3.micro for Valkey in eu-west-1" + ending,
		},
		"further ones are not": { // 283.82 + 4 × 13.07 × 0.085
			[]billedGroup{aGroup().with(large).with(func(g *billedGroup) { g.snapshotDays = 5 })}, "288.27",
			"2 nodes cache.r7g.large for Valkey in eu-west-1 with 4 snapshots beyond the free one, each as large as a node's memory" + ending,
		},
		"a replacement runs beside what it replaces": {
			[]billedGroup{aGroup(), aGroup().with(large)}, "303.68",
			"2 nodes cache.t3.micro for Valkey in eu-west-1, and beside it 2 nodes cache.r7g.large for Valkey in eu-west-1" + ending,
		},
		"a region without prices": {
			[]billedGroup{aGroup().with(func(g *billedGroup) { g.region = "mars-north-1" })}, "",
			"2 nodes cache.t3.micro for Valkey in mars-north-1; no price is known of cache.t3.micro for Valkey in mars-north-1",
		},
		"an engine without a price": {
			[]billedGroup{aGroup().with(func(g *billedGroup) { g.region = "us-east-1" })}, "",
			"2 nodes cache.t3.micro for Valkey in us-east-1; no price is known of cache.t3.micro for Valkey in us-east-1" + strings.ReplaceAll(ending, "2026-10-02", "2022-02-13"),
		},
		"a region that is not known": {
			[]billedGroup{aGroup().with(func(g *billedGroup) { g.region = "" })}, "",
			"2 nodes cache.t3.micro for Valkey; the region is not known yet",
		},
		"snapshots without a price": {
			[]billedGroup{{engine: v1alpha1.EngineRedis, nodeType: "cache.t3.micro", nodes: 1, region: "us-east-1", snapshotDays: 2}}, "",
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
	nowhere := estimateGroups(fewPrices, []billedGroup{aGroup().with(func(g *billedGroup) { g.region = "" })})
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
			"The change is held: it would cost an estimated 74.46 USD a month, 24.46 more than the budget of 50.00: raise spec.budget.monthlyUSD, or ask for less", true,
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
			"The change is held: what it would cost depends on the region, which nobody says: set cache.elastiCache.region, or spec.budget.whenExceeded to Warn", true,
		},
		"the region is unknown, and a warning would do": {
			warn, cost(0), nowhere, metav1.ConditionUnknown, v1alpha1.ReasonPriceUnknown, "The cost cannot be estimated: the region is not known yet", false,
		},
		"the region of what there is has not been told yet": {
			refuse, nowhere, nowhere, metav1.ConditionUnknown, v1alpha1.ReasonPriceUnknown, "The cost cannot be estimated: the region is not known yet", false,
		},
		"what is known is over": {
			refuse, cost(0), cost(7446, noPrice), metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded,
			"The change is held: it would cost at least an estimated 74.46 USD a month, 24.46 more than the budget of 50.00: raise spec.budget.monthlyUSD, or ask for less", true,
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

// A change that is held leaves the estimate at what there is: nothing of it is made.
func TestTheEstimateOfAHeldChange(t *testing.T) {
	fc := aFlagCache()
	fc.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: 25, WhenExceeded: v1alpha1.BudgetRefuse}
	s := aWorld(t, fc).snapshot()
	now, then := []billedGroup{aGroup()}, []billedGroup{aGroup(), aGroup()}
	part := planCost(observed.NewIndex(s), now, then)
	if !part.held || part.status().MonthlyUSD != estimateGroups(prices.ElastiCache(), now).usd() {
		t.Errorf("held is %v at %s USD a month, want the change held and what there is estimated", part.held, part.status().MonthlyUSD)
	}
	fc.Spec.Budget.WhenExceeded = v1alpha1.BudgetWarn
	part = planCost(observed.NewIndex(s), now, then)
	if part.held || part.status().MonthlyUSD != estimateGroups(prices.ElastiCache(), then).usd() {
		t.Errorf("held is %v at %s USD a month, want a warning and both groups estimated", part.held, part.status().MonthlyUSD)
	}
}

func TestAHeldChangeIsWhatIsInTheWay(t *testing.T) {
	condition, _ := withinBudget(v1alpha1.BudgetSpec{WhenExceeded: v1alpha1.BudgetRefuse}, estimate{}, estimate{cents: 100})
	v := summarize(parts{cache: cachePart{cost: costPart{budget: &condition, held: true}}}, nil)
	if !v.stalled || v.progressing || v.ready.Status != metav1.ConditionFalse || v.ready.Reason != v1alpha1.ReasonBudgetExceeded {
		t.Errorf("got %+v, want Ready False and Stalled for the budget", v)
	}
}

// Without a bill of its own a cache is within any budget, and says what that leaves out.
func TestABudgetWithoutABill(t *testing.T) {
	for basis, fc := range map[string]*v1alpha1.FlagCache{basisInCluster: aFlagCache(), basisExternal: withExternal(aFlagCache())} {
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
			t.Error("without a budget there is still something said about it")
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
	// A restart of the operator is no news.
	expect(observed.LoadUnknown, "Memory stays over 80 %")
	expect(observed.LoadNormal, "")
	expect(observed.LoadHighCPU, "CPU stays over 75 % of a core")
	// Nobody pays for the size of an in-cluster Redis as such.
	expect(observed.LoadLow, "")

	billed := func(nodeType string) parts {
		g := aGroup().with(func(g *billedGroup) { g.nodeType, g.region = nodeType, "us-east-1" })
		return parts{cache: cachePart{cost: planCost(w.index(), []billedGroup{g}, []billedGroup{g})}}
	}
	s := w.snapshot()
	if got := sizeHint(observed.NewIndex(s), billed("cache.r7g.large")); !strings.Contains(got, "a smaller spec.cache.elastiCache.nodeType would do") {
		t.Errorf("a large node: the hint is %q", got)
	}
	if got := sizeHint(observed.NewIndex(s), billed("cache.t4g.micro")); got != "" {
		t.Errorf("the smallest node: the hint is %q", got)
	}
}
