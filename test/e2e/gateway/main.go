// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command gateway is a small gateway for tests. It serves the HTTPRoutes of its
// namespace that name it as a parent, reports that in their status, and distributes
// requests by the weights of their backends. A route has one rule here, for all
// requests.
//
// The environment variable GATEWAY is its own namespace/name, PORT its port.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func main() {
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewJSONHandler(os.Stdout, nil)))
	if err := run(ctrl.SetupSignalHandler(), os.Getenv("GATEWAY"), os.Getenv("PORT")); err != nil {
		slog.Error("Exiting", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, identity, port string) error {
	namespace, name, _ := strings.Cut(identity, "/")
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(gatewayv1.Install(scheme))
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Cache:   cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		return fmt.Errorf("making a manager: %w", err)
	}
	g := &gateway{client: mgr.GetClient(), namespace: namespace, name: name, routes: map[string][]backend{}}
	err = ctrl.NewControllerManagedBy(mgr).
		For(&gatewayv1.HTTPRoute{}).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(g.allRoutes)).
		Complete(g)
	if err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	if err := mgr.Add(serving(g, port)); err != nil {
		return fmt.Errorf("adding the HTTP server: %w", err)
	}
	return mgr.Start(ctx)
}

// drainTime is how long requests under way may take when the gateway is stopped.
const drainTime = 5 * time.Second

// serving answers requests until the manager ends.
func serving(h http.Handler, port string) manager.Runnable {
	return manager.RunnableFunc(func(ctx context.Context) error {
		server := &http.Server{Addr: ":" + port, Handler: h, ReadHeaderTimeout: 5 * time.Second}
		stopped := make(chan error, 1)
		defer context.AfterFunc(ctx, func() {
			draining, cancel := context.WithTimeout(context.Background(), drainTime)
			defer cancel()
			stopped <- server.Shutdown(draining)
		})()
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("answering requests: %w", err)
		}
		return <-stopped
	})
}

// allRoutes requests a reconcile of all routes when a Service is created or deleted.
func (g *gateway) allRoutes(ctx context.Context, _ client.Object) []ctrl.Request {
	routes := &gatewayv1.HTTPRouteList{}
	if err := g.client.List(ctx, routes); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the routes")
		return nil
	}
	var requests []ctrl.Request
	for i := range routes.Items {
		requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&routes.Items[i])})
	}
	return requests
}
