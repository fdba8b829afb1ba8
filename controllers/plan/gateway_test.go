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

// aRoute is an HTTPRoute with a rule for each list of backends, which a gateway
// has taken.
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
	return taken(observed.Route{State: observed.RoutePresent, Object: route})
}

// taken is a route as a gateway leaves it that finds nothing wrong.
func taken(r observed.Route) observed.Route { return judged(r, "Accepted", "True") }

// judged is a route of which a gateway says one thing, and good things besides.
func judged(r observed.Route, kind, status string) observed.Route {
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

// putRoute stores a route as an API server does. Its gateway sees it in time for
// the next look.
func (w *world) putRoute(route *unstructured.Unstructured) {
	route.SetGeneration(route.GetGeneration() + 1)
	w.routes[route.GetName()] = taken(observed.Route{State: observed.RoutePresent, Object: route})
}

// routedWeight is the largest weight of a candidate in a rule of a route, in percent.
func (th *theatre) routedWeight() int32 {
	var largest int64
	for _, shared := range th.routes {
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

// aGatewayTheatre has a route shop, which sends everything to the stable revision.
func aGatewayTheatre(t *testing.T, rules ...string) *theatre {
	fc := withCanary(aFlagCache())
	byGateway(&fc.Spec)
	if len(rules) == 0 {
		rules = []string{"{name: demo, port: 80}"}
	}
	th := aTheatre(t, fc)
	th.routes = map[string]observed.Route{"shop": aRoute(t, rules...)}
	return th
}

func TestCanaryFilmsByGateway(t *testing.T) {
	scripts := map[string]func(*theatre){
		"promoted": func(th *theatre) {
			candidate := v2(th)
			th.until("the promotion", th.promoted(candidate))
			th.run(6 * time.Minute)
		},
		"rolled-back": func(th *theatre) {
			candidate := v2(th)
			th.note("the gateway goes wrong, and the candidate with it")
			th.routes["shop"] = judged(th.routes["shop"], "ResolvedRefs", "False")
			th.spoil(candidate, canary.ErrorRate, 0.05)
			th.until("the rollback", th.rolledBack)
			th.run(time.Minute)
		},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			th := aGatewayTheatre(t)
			script(th)
			expectGolden(t, "canary-by-gateway-"+name+".golden", strings.Join(th.film, "\n")+"\n")
			if got := backendsOf(th.routes["shop"]); got != "demo=1" {
				t.Errorf("the route is left as %q", got)
			}
			if _, there := observed.Get[*corev1.ConfigMap](th.index(), "demo-traffic"); there {
				t.Error("stable pods were told to hand requests on, too")
			}
		})
	}
}

// A canary waits with weight 0, and says for what, until its route works.
func TestAGatewayHoldsACanary(t *testing.T) {
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
		"a route of others":      {aRoute(t, "{name: other, port: 80}"), "add it to the backendRefs"},
		"a route without weight": {aRoute(t, "{name: demo, port: 80, weight: 0}"), "with a weight"},
		"a shared rule":          {aRoute(t, "{name: demo, port: 80}, {name: other, port: 80}"), "beside other backends"},
		"another namespace":      {aRoute(t, "{name: demo, namespace: other, port: 80}"), "add it to the backendRefs"},
	} {
		t.Run(name, func(t *testing.T) {
			th := aGatewayTheatre(t)
			th.routes["shop"] = c.route
			th.change(fromImage("flag-service:v2"))
			th.run(time.Minute)
			th.expect(v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonCanaryHeld)
			th.expectMessage(v1alpha1.ConditionRolloutHealthy, c.says)
			if c.route.State == observed.RoutePresent {
				if d := cmp.Diff(c.route.Object, th.routes["shop"].Object); d != "" {
					t.Errorf("the route was changed (-before +after):\n%s", d)
				}
			}
			th.note("mended")
			th.routes["shop"] = good
			th.until("the first step", func() bool { return th.weight() > 0 })
		})
	}
}

// Time counts only while the gateway has the route as it is.
func TestAStepWaitsForTheGateway(t *testing.T) {
	for name, change := range map[string]func(observed.Route) observed.Route{
		"not accepted":       func(r observed.Route) observed.Route { return judged(r, "Accepted", "False") },
		"refs not resolved":  func(r observed.Route) observed.Route { return judged(r, "ResolvedRefs", "False") },
		"not seen as it is":  func(r observed.Route) observed.Route { r.Object.SetGeneration(r.Object.GetGeneration() + 1); return r },
		"taken by nobody":    func(r observed.Route) observed.Route { delete(r.Object.Object, "status"); return r },
		"deleted":            func(observed.Route) observed.Route { return observed.Route{} },
		"of an unknown kind": func(observed.Route) observed.Route { return observed.Route{State: observed.RouteUnknownKind} },
	} {
		t.Run(name, func(t *testing.T) {
			th := aGatewayTheatre(t)
			candidate := v2(th)
			th.run(time.Minute)
			before := th.fc.Status.Canary.ObservedFor
			good := th.routes["shop"]
			th.routes["shop"] = change(observed.Route{State: good.State, Object: good.Object.DeepCopy()})
			th.run(20 * time.Minute)
			if now := th.fc.Status.Canary.ObservedFor; now != before {
				t.Errorf("%d s of the step were counted, and %d before", now, before)
			}
			th.routes["shop"] = taken(good)
			th.until("the promotion", th.promoted(candidate))
		})
	}
}

// A tool that puts the route back as it is in Git meets the candidate again.
func TestARouteThatIsPutBackGetsItsCandidateAgain(t *testing.T) {
	th := aGatewayTheatre(t, "{name: demo, port: 80, weight: 7}", "{name: other, port: 80}")
	candidate := v2(th)
	want := fmt.Sprintf("demo=665 demo-%s=35 | other=1", candidate)
	if got := backendsOf(th.routes["shop"]); got != want {
		t.Fatalf("the backends are %q, want %q", got, want)
	}
	th.routes["shop"] = aRoute(t, "{name: demo, port: 80, weight: 7}", "{name: other, port: 80}")
	th.look()
	if got := backendsOf(th.routes["shop"]); got != want {
		t.Errorf("the backends are %q, want %q again", got, want)
	}
	th.until("the promotion", th.promoted(candidate))
	th.look()
	if got := backendsOf(th.routes["shop"]); got != "demo=7 | other=1" {
		t.Errorf("the backends are %q after the canary", got)
	}
}

// What serves requests of a gateway stays until the gateway has seen that it is
// out of the route.
func TestACandidateStaysUntilTheGatewayLetsGo(t *testing.T) {
	th := aGatewayTheatre(t)
	candidate := v2(th)
	th.annotate(v1alpha1.AnnotationAbort, candidate)
	th.look()
	if th.weight() != 0 {
		t.Errorf("the weight is %d after the rollback", th.weight())
	}
	route := th.routes["shop"]
	behind := observed.Route{State: observed.RoutePresent, Object: route.Object.DeepCopy()}
	behind.Object.SetGeneration(route.Object.GetGeneration() + 1)
	th.routes["shop"] = behind
	if p := th.reconcile(); len(p.Delete) > 0 || p.RequeueAfter == 0 {
		t.Errorf("%v are deleted while the gateway may send requests, and the next look is in %s", names(p.Delete), p.RequeueAfter)
	}
	th.routes["shop"] = taken(behind)
	if p := th.reconcile(); len(p.Delete) != 2 {
		t.Errorf("%v are deleted, want the Deployment and the Service of the candidate", names(p.Delete))
	}
	if p := th.reconcile(); p.RequeueAfter != 0 {
		t.Errorf("a route that nobody is in is looked at again in %s", p.RequeueAfter)
	}
}

// A spec that names another route, or none, takes the candidate out of the one
// before.
func TestTheRouteBeforeIsLeftAsItWas(t *testing.T) {
	for name, edit := range map[string]func(*v1alpha1.FlagCacheSpec){
		"another route": func(s *v1alpha1.FlagCacheSpec) { s.Canary.Traffic.HTTPRouteRef.Name = "market" },
		"by split":      func(s *v1alpha1.FlagCacheSpec) { s.Canary.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficSplit} },
		"no canary":     func(s *v1alpha1.FlagCacheSpec) { s.Canary.Steps = nil },
	} {
		t.Run(name, func(t *testing.T) {
			th := aGatewayTheatre(t)
			candidate := v2(th)
			market := aRoute(t, "{name: demo, port: 80}")
			market.Object.SetName("market")
			th.routes["market"] = market
			th.edit(edit)
			for range 4 {
				th.look()
			}
			if got := backendsOf(th.routes["shop"]); got != "demo=1" {
				t.Errorf("the route is left as %q", got)
			}
			th.until("the promotion", th.promoted(candidate))
		})
	}
}

func TestADeletionTakesTheCandidateOutOfTheRouteFirst(t *testing.T) {
	th := aGatewayTheatre(t)
	v2(th)
	th.fc.DeletionTimestamp = &metav1.Time{Time: th.now}
	if p := th.reconcile(); len(p.Delete) > 0 || p.RequeueAfter == 0 {
		t.Errorf("%v are deleted before the route is clean", names(p.Delete))
	}
	th.expectMessage(v1alpha1.ConditionReady, "Waiting for HTTPRoute shop to be without the candidate")
	if got := backendsOf(th.routes["shop"]); got != "demo=1" {
		t.Errorf("the route is left as %q", got)
	}
	for range 10 {
		th.reconcile()
	}
	if len(th.fc.Finalizers) > 0 {
		t.Error("the deletion does not end")
	}
}
