// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;patch

// routes reads the HTTPRoutes that may name a candidate. They are read from the API
// server, and only while there are any: the cluster may not serve the kind, and a watch
// of a missing kind would keep the operator from starting.
func (o *observer) routes(ctx context.Context, fc *v1alpha1.FlagCache, children []observed.Object) (map[string]observed.Route, error) {
	var routes map[string]observed.Route
	for _, name := range traffic.RoutesToRead(fc, children) {
		route, err := o.route(ctx, client.ObjectKey{Namespace: fc.Namespace, Name: name})
		if err != nil {
			return nil, err
		}
		if routes == nil {
			routes = map[string]observed.Route{}
		}
		routes[name] = route
	}
	return routes, nil
}

func (o *observer) route(ctx context.Context, key client.ObjectKey) (observed.Route, error) {
	route := &unstructured.Unstructured{}
	route.SetAPIVersion(gatewayv1.GroupVersion.String())
	route.SetKind("HTTPRoute")
	switch err := o.live.Get(ctx, key, route); {
	case err == nil:
		return observed.Route{State: observed.RoutePresent, Object: route}, nil
	case meta.IsNoMatchError(err):
		return observed.Route{State: observed.RouteUnknownKind}, nil
	case apierrors.IsNotFound(err):
		return observed.Route{State: observed.RouteAbsent}, nil
	default:
		return observed.Route{}, fmt.Errorf("reading HTTPRoute %s: %w", key, err)
	}
}

// patchRoute sets the weights of a user's route, in the version of the snapshot. A
// deleted route is ignored. Read-your-writes consistency is disabled because there is no
// cache of routes to wait for.
func (a *applier) patchRoute(ctx context.Context, route *unstructured.Unstructured) error {
	if err := a.fresh.ensure(ctx); err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("Setting weights of HTTPRoute", "route", route.GetName())
	current := a.fresh.snapshot.Routes[route.GetName()].Object
	patch := client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(a.client.Patch(ctx, route, patch, client.FieldOwner(v1alpha1.FieldManager), client.DisableReadYourWritesConsistency))
}
