// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// route is an HTTPRoute that a user owns.
type route observed.Route

// maxUnits is the largest weight of a user's that can be restored from those of the
// candidate and of the stable revision: a weight is at most a million, and both are
// in hundredths of the user's.
const maxUnits = 10_000

// defaultWeight is the weight of a backend without one (HTTPBackendRef).
const defaultWeight = 1

// RoutesToRead returns the names of the HTTPRoutes that may refer to a candidate. The
// candidate's Service records them: it is created before its route refers to it, and
// deleted after the route no longer does.
func RoutesToRead(fc *v1alpha1.FlagCache, children []observed.Object) []string {
	var names []string
	for _, child := range children {
		if svc, ok := child.(*corev1.Service); ok && metav1.IsControlledBy(svc, fc) && svc.Annotations[v1alpha1.AnnotationRoute] != "" {
			names = append(names, svc.Annotations[v1alpha1.AnnotationRoute])
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxRoutes)]
}

// maxRoutes is how many routes are read: there is one for each candidate, and somebody may make
// more Services that name large ones.
const maxRoutes = 4

// desiredRoute is the route that shares a canary's traffic, "" if none does.
func desiredRoute(fc *v1alpha1.FlagCache) string {
	if c := fc.Spec.Canary; c != nil && c.Traffic.Type == v1alpha1.TrafficGatewayAPI && c.Traffic.HTTPRouteRef != nil {
		return c.Traffic.HTTPRouteRef.Name
	}
	return ""
}

// routeToRecord is the route to record in a candidate's Service: the one of the spec,
// as soon as the recorded one no longer refers to the candidate.
func routeToRecord(x *observed.Index, revision string) string {
	if recorded := recordedRoute(x, revision); route(x.Routes[recorded]).refersTo(x.FlagCache, revision) {
		return recorded
	}
	return desiredRoute(x.FlagCache)
}

// recordedRoute is the route that a candidate's Service was observed to record.
func recordedRoute(x *observed.Index, revision string) string {
	svc, ok := observed.Get[*corev1.Service](x, observed.RevisionName(x.FlagCache, revision))
	if !ok {
		return ""
	}
	return svc.Annotations[v1alpha1.AnnotationRoute]
}

// Routed reports whether a gateway may still send requests to a revision: its route
// refers to it, or a gateway has not observed yet that it no longer does.
func Routed(x *observed.Index, revision string) bool {
	r := route(x.Routes[recordedRoute(x, revision)])
	return r.refersTo(x.FlagCache, revision) || r.behind()
}

// RouteChanges returns the routes that differ from their desired state: only the
// desired route refers to a candidate, with its share, and no route to any other
// revision. The share is nil if no candidate is to get traffic.
func RouteChanges(x *observed.Index, share *Share) []*unstructured.Unstructured {
	var changed []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(x.Routes)) {
		route := x.Routes[name]
		if route.State != observed.RoutePresent {
			continue
		}
		edited := route.Object.DeepCopy()
		if share != nil && name == desiredRoute(x.FlagCache) {
			editRules(edited, x.FlagCache, func(b backends) []any {
				return b.shared(observed.RevisionName(x.FlagCache, share.Candidate), share.Weight)
			})
		} else {
			editRules(edited, x.FlagCache, backends.restored)
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
	// stable refers to the Service that clients call; nil if nothing does.
	stable map[string]any
	// candidates refer to Services of revisions, by name.
	candidates map[string]map[string]any
	// others is the number of backends that are not ours.
	others int
	// kept are all but the candidates.
	kept []any
	// sum of the weights of the stable Service and the candidates.
	sum int64
	// units is the weight that the user gave the stable Service.
	units int64
}

// readBackends sorts the backends of a rule by what they refer to.
func readBackends(fc *v1alpha1.FlagCache, refs []any) backends {
	b := backends{refs: refs, candidates: map[string]map[string]any{}}
	for _, item := range refs {
		ref, _ := item.(map[string]any)
		name := serviceOf(ref, fc.Namespace)
		_, isRevision := observed.RevisionOf(fc, name)
		switch {
		case isRevision:
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
	b.units = min(b.sum, maxUnits)
	if len(b.candidates) > 0 {
		b.units = min(max(1, b.sum/100), maxUnits)
	}
	return b
}

// served reports whether the rule sends requests to the stable Service.
func (b backends) served() bool { return b.stable != nil && b.units > 0 }

// shareable reports whether the rule sends requests to the stable Service and to no
// foreign backend, so that a weight is a share of the rule.
func (b backends) shareable() bool { return b.served() && b.others == 0 }

// shared returns the backends with the weight of a candidate, in percent. Both weights
// are in hundredths of the user's weight for the stable Service, so that it can be
// restored from them. The candidate's reference is a copy of the stable one, with its
// port and filters.
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

// restored returns the backends as the user had them.
func (b backends) restored() []any {
	if b.stable == nil || len(b.candidates) == 0 {
		return b.refs
	}
	b.stable["weight"] = b.units
	return b.kept
}

// rules returns the backends of each rule.
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

// refersTo reports whether a rule refers to a revision beside the stable Service.
func (r route) refersTo(fc *v1alpha1.FlagCache, revision string) bool {
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

// serviceOf returns the name of the Service that a reference is to, "" if it refers
// to something else or to another namespace.
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
