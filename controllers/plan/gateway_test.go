// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// aRoute is an HTTPRoute with a rule for each list of backends, accepted by a gateway.
func aRoute(t *testing.T, rules ...string) observed.Route {
	t.Helper()
	text := "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop, namespace: shop, generation: 1}\nspec:\n  rules:\n"
	for _, backends := range rules {
		text += "  - backendRefs: [" + backends + "]\n"
	}
	route := &unstructured.Unstructured{}
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = route.UnmarshalJSON(asJSON)
	}
	if err != nil {
		t.Fatal(err)
	}
	return accepted(observed.Route{State: observed.RoutePresent, Object: route})
}

// accepted is a route that a gateway accepted.
func accepted(r observed.Route) observed.Route { return withCondition(r, "Accepted", "True") }

// withCondition is a route with one condition of a gateway as given, and all others True.
func withCondition(r observed.Route, kind, status string) observed.Route {
	var conditions []any
	for _, k := range []string{"Accepted", "ResolvedRefs"} {
		says := "True"
		if k == kind {
			says = status
		}
		conditions = append(conditions, map[string]any{"type": k, "status": says, "reason": "Because", "observedGeneration": r.Object.GetGeneration()})
	}
	o := r.Object.DeepCopy()
	o.Object["status"] = map[string]any{"parents": []any{map[string]any{"conditions": conditions}}}
	return observed.Route{State: observed.RoutePresent, Object: o}
}

// backendsOf shows the backends of a route: "demo=95 demo-B=5 | other=1".
func backendsOf(r observed.Route) string {
	var rules []string
	spec := r.Object.Object["spec"].(map[string]any)
	for _, rule := range spec["rules"].([]any) {
		var refs []string
		for _, item := range rule.(map[string]any)["backendRefs"].([]any) {
			ref := item.(map[string]any)
			weight, set := ref["weight"].(int64)
			if !set {
				weight = 1
			}
			refs = append(refs, fmt.Sprintf("%s=%d", ref["name"], weight))
		}
		rules = append(rules, strings.Join(refs, " "))
	}
	return strings.Join(rules, " | ")
}

// readRoutes are the routes that are read, as the reconciler does.
func (w *world) readRoutes() map[string]observed.Route {
	routes := map[string]observed.Route{}
	for _, name := range traffic.RoutesToRead(w.fc, w.children) {
		routes[name] = w.routes[name]
	}
	return routes
}

// putRoute stores a route as an API server does. Its gateway observes it before the next
// reconcile.
func (w *world) putRoute(route *unstructured.Unstructured) {
	route.SetGeneration(route.GetGeneration() + 1)
	w.routes[route.GetName()] = accepted(observed.Route{State: observed.RoutePresent, Object: route})
}

// routedWeight is the largest weight of a candidate in a rule of a route, in percent.
func (sim *simulation) routedWeight() int32 {
	var largest int64
	for _, shared := range sim.routes {
		if shared.State != observed.RoutePresent {
			continue
		}
		for rule := range strings.SplitSeq(backendsOf(shared), " | ") {
			var candidate, sum int64
			for ref := range strings.FieldsSeq(rule) {
				name, text, _ := strings.Cut(ref, "=")
				weight, _ := strconv.ParseInt(text, 10, 64)
				if strings.HasPrefix(name, "demo-") {
					candidate = weight
				}
				if name == "demo" || strings.HasPrefix(name, "demo-") {
					sum += weight
				}
			}
			largest = max(largest, 100*candidate/max(1, sum))
		}
	}
	return int32(largest)
}

// byGateway shares the traffic by the route shop.
func byGateway(s *v1alpha1.FlagCacheSpec) {
	s.Canary.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficGatewayAPI, HTTPRouteRef: &v1alpha1.LocalReference{Name: "shop"}}
}

// newGatewaySimulation has a route shop, which sends all requests to the stable revision.
func newGatewaySimulation(t *testing.T, rules ...string) *simulation {
	fc := withCanary(aFlagCache())
	byGateway(&fc.Spec)
	if len(rules) == 0 {
		rules = []string{"{name: demo, port: 80}"}
	}
	sim := newSimulation(t, fc)
	sim.routes = map[string]observed.Route{"shop": aRoute(t, rules...)}
	return sim
}

func TestCanaryScenariosByGateway(t *testing.T) {
	scripts := map[string]func(*simulation){
		"promoted": func(sim *simulation) {
			candidate := v2(sim)
			sim.until("the promotion", sim.promoted(candidate))
			sim.runFor(6 * time.Minute)
		},
		"rolled-back": func(sim *simulation) {
			candidate := v2(sim)
			sim.note("the gateway fails, and the candidate with it")
			sim.routes["shop"] = withCondition(sim.routes["shop"], "ResolvedRefs", "False")
			sim.setBad(candidate, canary.ErrorRate, 0.05)
			sim.until("the rollback", sim.rolledBack)
			sim.runFor(time.Minute)
		},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			sim := newGatewaySimulation(t)
			script(sim)
			expectGolden(t, "canary-by-gateway-"+name+".golden", strings.Join(sim.trace, "\n")+"\n")
			if got := backendsOf(sim.routes["shop"]); got != "demo=1" {
				t.Errorf("the route is %q", got)
			}
			if _, there := observed.Get[*corev1.ConfigMap](sim.index(), "demo-traffic"); there {
				t.Error("stable pods forward requests, too")
			}
		})
	}
}

// A canary waits with weight 0, and reports why, until its route works.
func TestGatewayHoldsACanary(t *testing.T) {
	good := aRoute(t, "{name: demo, port: 80}")
	alone := good
	alone.Object = good.Object.DeepCopy()
	delete(alone.Object.Object, "status")
	for name, c := range map[string]struct {
		route observed.Route
		says  string
	}{
		"no Gateway API":         {observed.Route{State: observed.RouteUnknownKind}, "install the Gateway API"},
		"no route":               {observed.Route{}, "HTTPRoute shop does not exist"},
		"a foreign route":        {aRoute(t, "{name: other, port: 80}"), "add it to the backendRefs"},
		"a route without weight": {aRoute(t, "{name: demo, port: 80, weight: 0}"), "with a weight"},
		"a shared rule":          {aRoute(t, "{name: demo, port: 80}, {name: other, port: 80}"), "beside other backends"},
		"another namespace":      {aRoute(t, "{name: demo, namespace: other, port: 80}"), "add it to the backendRefs"},
	} {
		t.Run(name, func(t *testing.T) {
			sim := newGatewaySimulation(t)
			sim.routes["shop"] = c.route
			sim.change(fromImage("flag-service:v2"))
			sim.runFor(time.Minute)
			sim.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryHeld)
			sim.expectMessage(v1alpha1.ConditionRolloutHealthy, c.says)
			if c.route.State == observed.RoutePresent {
				if d := cmp.Diff(c.route.Object, sim.routes["shop"].Object); d != "" {
					t.Errorf("the route was changed (-before +after):\n%s", d)
				}
			}
			sim.note("fixed")
			sim.routes["shop"] = good
			sim.until("the first step", func() bool { return sim.weight() > 0 })
		})
	}
}

// Time counts only while the gateway has the route as it is.
func TestStepWaitsForTheGateway(t *testing.T) {
	for name, change := range map[string]func(observed.Route) observed.Route{
		"not accepted":        func(r observed.Route) observed.Route { return withCondition(r, "Accepted", "False") },
		"refs not resolved":   func(r observed.Route) observed.Route { return withCondition(r, "ResolvedRefs", "False") },
		"not observed":        func(r observed.Route) observed.Route { r.Object.SetGeneration(r.Object.GetGeneration() + 1); return r },
		"not accepted at all": func(r observed.Route) observed.Route { delete(r.Object.Object, "status"); return r },
		"deleted":             func(observed.Route) observed.Route { return observed.Route{} },
		"of an unknown kind":  func(observed.Route) observed.Route { return observed.Route{State: observed.RouteUnknownKind} },
	} {
		t.Run(name, func(t *testing.T) {
			sim := newGatewaySimulation(t)
			candidate := v2(sim)
			sim.runFor(time.Minute)
			before := sim.fc.Status.Canary.ObservedFor
			good := sim.routes["shop"]
			sim.routes["shop"] = change(observed.Route{State: good.State, Object: good.Object.DeepCopy()})
			sim.runFor(20 * time.Minute)
			if now := sim.fc.Status.Canary.ObservedFor; now != before {
				t.Errorf("%d s of the step were counted, and %d before", now, before)
			}
			sim.routes["shop"] = accepted(good)
			sim.until("the promotion", sim.promoted(candidate))
		})
	}
}

// After a GitOps tool restores the route, the candidate is added again.
func TestRestoredRouteGetsTheCandidateAgain(t *testing.T) {
	sim := newGatewaySimulation(t, "{name: demo, port: 80, weight: 7}", "{name: other, port: 80}")
	candidate := v2(sim)
	want := fmt.Sprintf("demo=665 demo-%s=35 | other=1", candidate)
	if got := backendsOf(sim.routes["shop"]); got != want {
		t.Fatalf("the backends are %q, want %q", got, want)
	}
	sim.routes["shop"] = aRoute(t, "{name: demo, port: 80, weight: 7}", "{name: other, port: 80}")
	sim.tick()
	if got := backendsOf(sim.routes["shop"]); got != want {
		t.Errorf("the backends are %q, want %q again", got, want)
	}
	sim.until("the promotion", sim.promoted(candidate))
	sim.tick()
	if got := backendsOf(sim.routes["shop"]); got != "demo=7 | other=1" {
		t.Errorf("the backends are %q after the canary", got)
	}
}

// What serves requests of a gateway stays until the gateway has observed that it was
// removed from the route.
func TestCandidateStaysUntilTheGatewayObservedItsRemoval(t *testing.T) {
	sim := newGatewaySimulation(t)
	candidate := v2(sim)
	sim.annotate(v1alpha1.AnnotationAbort, candidate)
	sim.tick()
	if sim.weight() != 0 {
		t.Errorf("the weight is %d after the rollback", sim.weight())
	}
	route := sim.routes["shop"]
	behind := observed.Route{State: observed.RoutePresent, Object: route.Object.DeepCopy()}
	behind.Object.SetGeneration(route.Object.GetGeneration() + 1)
	sim.routes["shop"] = behind
	if p := sim.reconcile(); len(p.Delete) > 0 || p.RequeueAfter == 0 {
		t.Errorf("%v are deleted while the gateway may send requests, and the next reconcile is in %s", names(p.Delete), p.RequeueAfter)
	}
	sim.routes["shop"] = accepted(behind)
	if p := sim.reconcile(); len(p.Delete) != 2 {
		t.Errorf("%v are deleted, want the Deployment and the Service of the candidate", names(p.Delete))
	}
	if p := sim.reconcile(); p.RequeueAfter != 0 {
		t.Errorf("a route without a candidate is reconciled again in %s", p.RequeueAfter)
	}
}

// A spec that names another route, or none, removes the candidate from the previous one.
func TestPreviousRouteIsRestored(t *testing.T) {
	for name, edit := range map[string]func(*v1alpha1.FlagCacheSpec){
		"another route": func(s *v1alpha1.FlagCacheSpec) { s.Canary.Traffic.HTTPRouteRef.Name = "market" },
		"by split":      func(s *v1alpha1.FlagCacheSpec) { s.Canary.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit} },
		"no canary":     func(s *v1alpha1.FlagCacheSpec) { s.Canary.Steps = nil },
	} {
		t.Run(name, func(t *testing.T) {
			sim := newGatewaySimulation(t)
			candidate := v2(sim)
			market := aRoute(t, "{name: demo, port: 80}")
			market.Object.SetName("market")
			sim.routes["market"] = market
			sim.edit(edit)
			for range 4 {
				sim.tick()
			}
			if got := backendsOf(sim.routes["shop"]); got != "demo=1" {
				t.Errorf("the route is %q", got)
			}
			sim.until("the promotion", sim.promoted(candidate))
		})
	}
}

func TestDeletionRemovesTheCandidateFromTheRouteFirst(t *testing.T) {
	sim := newGatewaySimulation(t)
	v2(sim)
	sim.fc.DeletionTimestamp = &metav1.Time{Time: sim.now}
	if p := sim.reconcile(); len(p.Delete) > 0 || p.RequeueAfter == 0 {
		t.Errorf("%v are deleted before the route is clean", names(p.Delete))
	}
	sim.expectMessage(v1alpha1.ConditionReady, "Waiting for HTTPRoute shop to stop referring to the candidate")
	if got := backendsOf(sim.routes["shop"]); got != "demo=1" {
		t.Errorf("the route is %q", got)
	}
	for range 10 {
		sim.reconcile()
	}
	if len(sim.fc.Finalizers) > 0 {
		t.Error("the deletion does not finish")
	}
}
