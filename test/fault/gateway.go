// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

const (
	// routeName is the name of the user's HTTPRoute.
	routeName = "shop"
	// annotationWeights are the weights with which the gateway currently distributes requests.
	annotationWeights = "world.test/programs"
)

// aRoute returns an HTTPRoute with the Service as its only backend.
func aRoute() *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Name: routeName, Namespace: namespace},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "public"}}},
			Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
				BackendObjectReference: gatewayv1.BackendObjectReference{Name: name, Port: ptr.To[gatewayv1.PortNumber](80)},
			}}}}},
		},
	}
}

// gateway accepts the current routes: it sets their status, and distributes requests by their
// weights from then on.
func (w kube) gateway() {
	for _, o := range w.api.now(httpRoutes) {
		updateAs(&w.api, httpRoutes, o.GetName(), func(route *gatewayv1.HTTPRoute) {
			programs, err := json.Marshal(weightsOf(route))
			if err != nil {
				panic(fmt.Sprintf("writing the weights of a route: %v", err))
			}
			setAnnotation(route, annotationWeights, string(programs))
			w.setRouteStatus(route)
		})
	}
}

// setRouteStatus sets Accepted, and ResolvedRefs if all backends exist.
func (w kube) setRouteStatus(route *gatewayv1.HTTPRoute) {
	resolved := metav1.ConditionTrue
	for _, ref := range route.Spec.Rules[0].BackendRefs {
		if find(w.api.now(services), string(ref.Name)) == nil {
			resolved = metav1.ConditionFalse
		}
	}
	parent := gatewayv1.RouteParentStatus{ParentRef: route.Spec.ParentRefs[0], ControllerName: "world.test/gateway"}
	for _, c := range []metav1.Condition{
		{Type: string(gatewayv1.RouteConditionAccepted), Status: metav1.ConditionTrue, Reason: string(gatewayv1.RouteReasonAccepted)},
		{Type: string(gatewayv1.RouteConditionResolvedRefs), Status: resolved, Reason: "Checked"},
	} {
		c.ObservedGeneration = route.Generation
		parent.Conditions = append(parent.Conditions, c)
	}
	route.Status.Parents = []gatewayv1.RouteParentStatus{parent}
}

// weightsOf returns the weights of a route's backends by name.
func weightsOf(route *gatewayv1.HTTPRoute) map[string]int32 {
	weights := map[string]int32{}
	for _, ref := range route.Spec.Rules[0].BackendRefs {
		weights[string(ref.Name)] += ptr.Deref(ref.Weight, 1)
	}
	return weights
}

// gatewayTraffic returns the shares that the gateway sends to candidates.
func (w load) gatewayTraffic() []share {
	route, ok := live[*gatewayv1.HTTPRoute](&w.api.store, httpRoutes, routeName)
	if !ok {
		return nil
	}
	var programs map[string]int32
	if json.Unmarshal([]byte(route.Annotations[annotationWeights]), &programs) != nil {
		return nil
	}
	return sharesOf(programs)
}

// sharesOf returns the shares of candidates according to the weights of backends.
func sharesOf(weights map[string]int32) []share {
	all := int32(0)
	for _, weight := range weights {
		all += weight
	}
	var shares []share
	for _, backend := range slices.Sorted(maps.Keys(weights)) {
		revision, isCandidate := strings.CutPrefix(backend, name+"-")
		if isCandidate && weights[backend] > 0 {
			shares = append(shares, share{revision, 100 * weights[backend] / all})
		}
	}
	return shares
}

// checkRoute verifies S1: only the weights of the FlagCache's Services are changed in a user's
// route.
func (w oracle) checkRoute(before, after client.Object) {
	if before == nil || after == nil {
		w.violation("S1 ownership: the operator created or deleted an HTTPRoute")
		return
	}
	old, updated := before.(*gatewayv1.HTTPRoute), after.(*gatewayv1.HTTPRoute)
	if hash(withoutCandidates(old)) != hash(withoutCandidates(updated)) {
		w.violation("S1 ownership: the operator changed more of an HTTPRoute than its weights")
	}
}

// withoutCandidates returns a route as its user wrote it.
func withoutCandidates(route *gatewayv1.HTTPRoute) *gatewayv1.HTTPRoute {
	r := route.DeepCopy()
	r.ResourceVersion, r.Generation, r.ManagedFields = "", 0, nil
	rule := &r.Spec.Rules[0]
	var others []gatewayv1.HTTPBackendRef
	for _, ref := range rule.BackendRefs {
		if !strings.HasPrefix(string(ref.Name), name+"-") {
			ref.Weight = nil
			others = append(others, ref)
		}
	}
	rule.BackendRefs = others
	return r
}

// withGateway sets traffic routing by an HTTPRoute.
func withGateway(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficGatewayAPI, HTTPRouteRef: &v1alpha1.LocalReference{Name: routeName}}
	return fc
}
