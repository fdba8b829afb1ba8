// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// route is an HTTPRoute of a user's.
type route observed.Route

// mostUnits is the largest weight of a user's that can be told again from a
// candidate's and the stable revision's: a weight is a million at the most, and
// both are in hundredths of the user's.
const mostUnits = 10_000

// defaultWeight is what a backend without a weight has (HTTPBackendRef).
const defaultWeight = 1

// RoutesToRead are the HTTPRoutes that may name a candidate. The candidate's
// Service says which; it is made before its route names it, and outlives that.
func RoutesToRead(fc *v1alpha1.FlagCache, children []observed.Object) []string {
	var names []string
	for _, child := range children {
		if svc, ok := child.(*corev1.Service); ok && metav1.IsControlledBy(svc, fc) && svc.Annotations[v1alpha1.AnnotationRoute] != "" {
			names = append(names, svc.Annotations[v1alpha1.AnnotationRoute])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// wantedRoute is the route that shares a canary's traffic, "" where none does.
func wantedRoute(fc *v1alpha1.FlagCache) string {
	if c := fc.Spec.Canary; c != nil && c.Traffic.Type == v1alpha1.TrafficGatewayAPI && c.Traffic.HTTPRouteRef != nil {
		return c.Traffic.HTTPRouteRef.Name
	}
	return ""
}

// recordedRoute is the route to write into a candidate's Service: the one of the
// spec, as soon as the one before does not name the candidate any more.
func recordedRoute(s *observed.Index, revision string) string {
	if before := routeBefore(s, revision); route(s.Routes[before]).names(s.FlagCache, revision) {
		return before
	}
	return wantedRoute(s.FlagCache)
}

// routeBefore is the route that a candidate's Service was seen with.
func routeBefore(s *observed.Index, revision string) string {
	svc, ok := observed.Get[*corev1.Service](s, observed.RevisionName(s.FlagCache, revision))
	if !ok {
		return ""
	}
	return svc.Annotations[v1alpha1.AnnotationRoute]
}

// routed says that a gateway may still send requests to a revision: its route
// names it, or did until a gateway last looked.
func routed(s *observed.Index, revision string) bool {
	r := route(s.Routes[routeBefore(s, revision)])
	return r.names(s.FlagCache, revision) || r.behind()
}

// routeChanges are the routes that differ from what they should be. The candidate
// of a trial is in its route, and nowhere else; no other revision is in any.
func routeChanges(s *observed.Index, r rollout) []*unstructured.Unstructured {
	trial := r.canary != nil && r.canary.Rollback == nil
	var changed []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(s.Routes)) {
		route := s.Routes[name]
		if route.State != observed.RoutePresent {
			continue
		}
		edited := route.Object.DeepCopy()
		if trial && name == wantedRoute(s.FlagCache) {
			editRules(edited, s.FlagCache, func(b backends) []any { return b.shared(observed.RevisionName(s.FlagCache, r.target), r.canary.Weight) })
		} else {
			editRules(edited, s.FlagCache, backends.restored)
		}
		if !equality.Semantic.DeepEqual(edited, route.Object) {
			changed = append(changed, edited)
		}
	}
	return changed
}

// backends are those of one rule.
type backends struct {
	refs []any
	// stable refers to the Service that clients call, nil where nothing does.
	stable map[string]any
	// candidates refer to Services of revisions, by name.
	candidates map[string]map[string]any
	// others are not ours.
	others int
	// kept are all but the candidates.
	kept []any
	// sum of the weights of the stable Service and the candidates.
	sum int64
	// units is the weight that the user gave the stable Service.
	units int64
}

// readBackends tells the backends of a rule apart.
func readBackends(fc *v1alpha1.FlagCache, refs []any) backends {
	b := backends{refs: refs, candidates: map[string]map[string]any{}}
	for _, item := range refs {
		ref, _ := item.(map[string]any)
		name := serviceOf(ref, fc.Namespace)
		switch {
		case isRevisionName(fc, name):
			b.candidates[name] = ref
			b.sum += weightOf(ref)
			continue
		case name == observed.ServiceName(fc) && b.stable == nil:
			b.stable = ref
			b.sum += weightOf(ref)
		default:
			b.others++
		}
		b.kept = append(b.kept, item)
	}
	b.units = min(b.sum, mostUnits)
	if len(b.candidates) > 0 {
		b.units = min(max(1, b.sum/100), mostUnits)
	}
	return b
}

// served says that the rule sends requests to the stable Service.
func (b backends) served() bool { return b.stable != nil && b.units > 0 }

// shareable says that the rule sends requests to the stable Service and to
// nothing of others: a weight means a share of the rule.
func (b backends) shareable() bool { return b.served() && b.others == 0 }

// shared are the backends with the weight in percent for a candidate. Both weights
// are in hundredths of what the user gave the stable Service, so that this can be
// told from them. The candidate's reference is a copy of the stable one, with
// its port and its filters.
func (b backends) shared(candidate string, weight int32) []any {
	if !b.shareable() {
		return b.refs
	}
	ref, ok := b.candidates[candidate]
	if !ok {
		ref = runtime.DeepCopyJSON(b.stable)
		ref["name"] = candidate
	}
	ref["weight"], b.stable["weight"] = b.units*int64(weight), b.units*int64(100-weight)
	return []any{b.stable, ref}
}

// restored are the backends as the user had them.
func (b backends) restored() []any {
	if b.stable == nil || len(b.candidates) == 0 {
		return b.refs
	}
	b.stable["weight"] = b.units
	return b.kept
}

// rules are the backends of each rule.
func (r route) rules(fc *v1alpha1.FlagCache) []backends {
	if r.State != observed.RoutePresent {
		return nil
	}
	var all []backends
	editRules(r.Object.DeepCopy(), fc, func(b backends) []any {
		all = append(all, b)
		return b.refs
	})
	return all
}

// names says that a rule sends requests to a revision, beside the stable Service.
func (r route) names(fc *v1alpha1.FlagCache, revision string) bool {
	return slices.ContainsFunc(r.rules(fc), func(b backends) bool {
		return b.stable != nil && b.candidates[observed.RevisionName(fc, revision)] != nil
	})
}

// editRules replaces the backends of each rule of a route that has any.
func editRules(route *unstructured.Unstructured, fc *v1alpha1.FlagCache, edit func(backends) []any) {
	spec, _ := route.Object["spec"].(map[string]any)
	rules, _ := spec["rules"].([]any)
	for _, item := range rules {
		rule, _ := item.(map[string]any)
		if refs, ok := rule["backendRefs"].([]any); ok {
			rule["backendRefs"] = edit(readBackends(fc, refs))
		}
	}
}

// serviceOf is the name of the Service that a reference is to, "" if it is to
// something else or to another namespace.
func serviceOf(ref map[string]any, namespace string) string {
	for field, want := range map[string]string{"group": corev1.GroupName, "kind": "Service", "namespace": namespace} {
		if value, set := ref[field]; set && value != want {
			return ""
		}
	}
	name, _ := ref["name"].(string)
	return name
}

func weightOf(ref map[string]any) int64 {
	if weight, ok := ref["weight"].(int64); ok {
		return weight
	}
	return defaultWeight
}

// isRevisionName says that a Service is that of a revision, also of one that
// there is no record of any more.
func isRevisionName(fc *v1alpha1.FlagCache, name string) bool {
	hash, ok := strings.CutPrefix(name, observed.RevisionName(fc, ""))
	return ok && len(hash) == 8 && strings.Trim(hash, "0123456789abcdef") == ""
}

// gate is what a route says of a canary.
type gate struct {
	// trouble is what a person has to mend before the canary goes on.
	trouble string
	// waiting is for what comes by itself.
	waiting string
	// least and most are the candidate's weights, in percent, in the rules that it
	// is to be in.
	least, most int32
}

// readGate judges the route of the spec; nil where there is none.
func readGate(s *observed.Index, candidate string) *gate {
	name := wantedRoute(s.FlagCache)
	if name == "" {
		return nil
	}
	seen, read := s.Routes[name]
	r := route(seen)
	switch {
	case !read:
		return &gate{waiting: "Waiting for the candidate's Service"}
	case r.State == observed.RouteUnknownKind:
		return &gate{trouble: "The cluster does not know the kind HTTPRoute: install the Gateway API, or use another canary.traffic.type"}
	case r.State == observed.RouteAbsent:
		return &gate{trouble: "HTTPRoute " + name + " does not exist: make it, or change canary.traffic.httpRouteRef"}
	}
	g := r.weights(s.FlagCache, candidate)
	if g.trouble == "" {
		g.trouble, g.waiting = r.accepted(g.waiting)
	}
	return &g
}

// weights are those of the candidate in the rules that serve the FlagCache.
func (r route) weights(fc *v1alpha1.FlagCache, candidate string) gate {
	name := r.Object.GetName()
	g := gate{least: 100}
	served := false
	for _, b := range r.rules(fc) {
		if !b.served() {
			continue
		}
		served = true
		if b.others > 0 {
			g.trouble = fmt.Sprintf("A rule of HTTPRoute %s has Service %s beside other backends: a share of the rule can be told only where that Service is alone", name, observed.ServiceName(fc))
		}
		ref, there := b.candidates[observed.RevisionName(fc, candidate)]
		if !there {
			g.waiting, g.least = "Waiting for the route to name the candidate", 0
			continue
		}
		weight := int32(100 * weightOf(ref) / max(1, b.sum))
		g.least, g.most = min(g.least, weight), max(g.most, weight)
	}
	if !served {
		g.trouble = fmt.Sprintf("HTTPRoute %s sends nothing to Service %s: name it in the backendRefs of a rule, with a weight", name, observed.ServiceName(fc))
	}
	return g
}

// accepted reads what the gateways say (RouteParentStatus): that they take the
// route as it is now, and find all that it refers to.
func (r route) accepted(waiting string) (trouble, stillWaiting string) {
	name, parents := r.Object.GetName(), r.parents()
	if len(parents) == 0 {
		return "", "Waiting for a gateway to take HTTPRoute " + name + ": see its parentRefs"
	}
	if waiting == "" && r.behind() {
		waiting = "Waiting for the gateway to see the route as it is"
	}
	for _, parent := range parents {
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			c := meta.FindStatusCondition(parent.Conditions, string(kind))
			if c == nil {
				return "", "Waiting for the gateway to say that the route is " + string(kind)
			}
			if c.Status != metav1.ConditionTrue && waiting == "" {
				return fmt.Sprintf("The gateway says that HTTPRoute %s is not %s (%s): see the route's status", name, kind, c.Reason), ""
			}
		}
	}
	return "", waiting
}

// behind says that a gateway has not yet seen the route as it is.
func (r route) behind() bool {
	if r.State != observed.RoutePresent {
		return false
	}
	for _, parent := range r.parents() {
		for _, c := range parent.Conditions {
			if c.ObservedGeneration < r.Object.GetGeneration() {
				return true
			}
		}
	}
	return false
}

// parents are the gateways' words. A status that cannot be read says nothing.
func (r route) parents() []gatewayv1.RouteParentStatus {
	var route gatewayv1.HTTPRoute
	status, _ := r.Object.Object["status"].(map[string]any)
	if runtime.DefaultUnstructuredConverter.FromUnstructured(status, &route.Status) != nil {
		return nil
	}
	return route.Status.Parents
}
