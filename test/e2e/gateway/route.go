// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// controllerName distinguishes this gateway's status from that of others.
const controllerName = "flagcache.dev/test-gateway"

// gateway holds the backends that requests are distributed to.
type gateway struct {
	client client.Client
	// namespace and name of the Gateway that routes name.
	namespace, name string

	mu sync.RWMutex
	// routes are the backends of each route, by the route's name.
	routes map[string][]backend
}

// backend is a Service with its weight.
type backend struct {
	host   string
	weight int32
}

// Reconcile applies the current spec of a route, and then reports that in its status.
func (g *gateway) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	route := &gatewayv1.HTTPRoute{}
	if err := g.client.Get(ctx, req.NamespacedName, route); err != nil {
		g.setBackends(req.Name, nil)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	parent := slices.IndexFunc(route.Spec.ParentRefs, func(p gatewayv1.ParentReference) bool { return string(p.Name) == g.name })
	if parent < 0 {
		g.setBackends(req.Name, nil)
		return ctrl.Result{}, nil
	}
	accepted, resolved := g.judge(ctx, route)
	g.setBackends(req.Name, g.backends(route, accepted))
	err := g.report(ctx, route, route.Spec.ParentRefs[parent], accepted, resolved)
	if apierrors.IsConflict(err) {
		return ctrl.Result{}, nil // the watch delivers the newer version
	}
	return ctrl.Result{}, err
}

// judge reports whether this gateway supports the route, and whether its backends
// exist.
func (g *gateway) judge(ctx context.Context, route *gatewayv1.HTTPRoute) (accepted, resolved metav1.Condition) {
	condition := func(kind gatewayv1.RouteConditionType, reason gatewayv1.RouteConditionReason, err error) metav1.Condition {
		c := metav1.Condition{Type: string(kind), Status: metav1.ConditionTrue, Reason: string(kind), ObservedGeneration: route.Generation}
		if err != nil {
			c.Status, c.Reason, c.Message = metav1.ConditionFalse, string(reason), err.Error()
		}
		return c
	}
	return condition(gatewayv1.RouteConditionAccepted, gatewayv1.RouteReasonUnsupportedValue, supported(route)),
		condition(gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteReasonBackendNotFound, g.resolve(ctx, route))
}

var errUnsupported = errors.New("a route has one rule, for all requests, without filters")

func supported(route *gatewayv1.HTTPRoute) error {
	if len(route.Spec.Rules) != 1 || len(route.Spec.Hostnames) > 0 {
		return errUnsupported
	}
	rule := route.Spec.Rules[0]
	all := gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: ptr.To(gatewayv1.PathMatchPathPrefix), Value: ptr.To("/")}}
	for _, match := range rule.Matches {
		if !equality.Semantic.DeepEqual(match, all) {
			return errUnsupported
		}
	}
	if len(rule.Filters) > 0 {
		return errUnsupported
	}
	return nil
}

func (g *gateway) resolve(ctx context.Context, route *gatewayv1.HTTPRoute) error {
	for _, rule := range route.Spec.Rules {
		for _, ref := range rule.BackendRefs {
			key := client.ObjectKey{Namespace: g.namespace, Name: string(ref.Name)}
			if err := g.client.Get(ctx, key, &corev1.Service{}); err != nil {
				return fmt.Errorf("finding Service %s: %w", ref.Name, err)
			}
		}
	}
	return nil
}

// backends of a route; none if it is not accepted.
func (g *gateway) backends(route *gatewayv1.HTTPRoute, accepted metav1.Condition) []backend {
	if accepted.Status != metav1.ConditionTrue {
		return nil
	}
	var backends []backend
	for _, ref := range route.Spec.Rules[0].BackendRefs {
		host := fmt.Sprintf("%s.%s.svc.cluster.local:%d", ref.Name, g.namespace, ptr.Deref(ref.Port, 80))
		backends = append(backends, backend{host: host, weight: ptr.Deref(ref.Weight, 1)})
	}
	return backends
}

// setBackends replaces the backends of a route.
func (g *gateway) setBackends(route string, backends []backend) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.routes[route] = backends
}

// report writes this gateway's conditions into the status, beside those of others.
func (g *gateway) report(ctx context.Context, route *gatewayv1.HTTPRoute, ref gatewayv1.ParentReference, conditions ...metav1.Condition) error {
	before := route.DeepCopy()
	mine := slices.IndexFunc(route.Status.Parents, func(p gatewayv1.RouteParentStatus) bool { return p.ControllerName == controllerName })
	if mine < 0 {
		route.Status.Parents = append(route.Status.Parents, gatewayv1.RouteParentStatus{ControllerName: controllerName})
		mine = len(route.Status.Parents) - 1
	}
	route.Status.Parents[mine].ParentRef = ref
	for _, c := range conditions {
		meta.SetStatusCondition(&route.Status.Parents[mine].Conditions, c)
	}
	if equality.Semantic.DeepEqual(before.Status, route.Status) {
		return nil
	}
	return g.client.Status().Update(ctx, route)
}
