// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Gateway returns what the route of the spec means for a candidate; nil if no route
// shares the traffic.
func Gateway(x *observed.Index, candidate string) *canary.Gateway {
	name := desiredRoute(x.FlagCache)
	if name == "" {
		return nil
	}
	seen, read := x.Routes[name]
	r := route(seen)
	switch {
	case !read:
		return &canary.Gateway{Waiting: "Waiting for the candidate's Service"}
	case r.State == observed.RouteUnknownKind:
		return &canary.Gateway{Failure: "The API server does not serve HTTPRoutes: install the Gateway API, or use another canary.traffic.type"}
	case r.State == observed.RouteAbsent:
		return &canary.Gateway{Failure: "HTTPRoute " + name + " does not exist: create it, or change canary.traffic.httpRouteRef"}
	}
	g := r.weights(x.FlagCache, candidate)
	if g.Failure == "" {
		g.Failure, g.Waiting = r.accepted(g.Waiting)
	}
	return &g
}

// weights returns those of the candidate in the rules that serve the FlagCache.
func (r route) weights(fc *v1alpha1.FlagCache, candidate string) canary.Gateway {
	name := r.Object.GetName()
	g := canary.Gateway{MinWeight: 100}
	served := false
	for _, b := range r.rules(fc) {
		if !b.served() {
			continue
		}
		served = true
		if b.others > 0 {
			g.Failure = fmt.Sprintf("A rule of HTTPRoute %s has Service %s beside other backends: the candidate can get a share of the rule only if that Service is its only backend", name, observed.ServiceName(fc))
		}
		ref, exists := b.candidates[observed.RevisionName(fc, candidate)]
		if !exists {
			g.Waiting, g.MinWeight = "Waiting for the route to refer to the candidate", 0
			continue
		}
		weight := int32(100 * weightOf(ref) / max(1, b.sum))
		g.MinWeight, g.MaxWeight = min(g.MinWeight, weight), max(g.MaxWeight, weight)
	}
	if !served {
		g.Failure = fmt.Sprintf("HTTPRoute %s sends nothing to Service %s: add it to the backendRefs of a rule, with a weight", name, observed.ServiceName(fc))
	}
	return g
}

// accepted reads the status that the gateways report (RouteParentStatus): they must
// accept the current generation of the route and resolve its references.
func (r route) accepted(waiting string) (failure, stillWaiting string) {
	name, parents := r.Object.GetName(), r.parents()
	if len(parents) == 0 {
		return "", "Waiting for a gateway to accept HTTPRoute " + name + ": see its parentRefs"
	}
	if waiting == "" && r.behind() {
		waiting = "Waiting for the gateway to observe the current generation of the route"
	}
	for _, parent := range parents {
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			c := meta.FindStatusCondition(parent.Conditions, string(kind))
			if c == nil {
				return "", "Waiting for the gateway to report the condition " + string(kind) + " of the route"
			}
			if c.Status != metav1.ConditionTrue && waiting == "" {
				return fmt.Sprintf("The gateway reports that HTTPRoute %s is not %s (%s): see the status of the route", name, kind, c.Reason), ""
			}
		}
	}
	return "", waiting
}

// behind reports whether a gateway has not observed the current generation yet.
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

// parents returns the statuses that the gateways report; none if the status cannot be
// decoded.
func (r route) parents() []gatewayv1.RouteParentStatus {
	var route gatewayv1.HTTPRoute
	status, _ := r.Object.Object["status"].(map[string]any)
	if runtime.DefaultUnstructuredConverter.FromUnstructured(status, &route.Status) != nil {
		return nil
	}
	return route.Status.Parents
}
