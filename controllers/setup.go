// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/fairqueue"
	"github.com/flagcache/flagcache/controllers/plan/caches"
)

// +kubebuilder:rbac:groups=flagcache.dev,resources=flagcaches,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=flagcache.dev,resources=flagcaches/status,verbs=patch
// +kubebuilder:rbac:groups=flagcache.dev,resources=flagcaches/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets;configmaps;services;serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods;events,verbs=list
// +kubebuilder:rbac:groups="",resources=namespaces,resourceNames=kube-system,verbs=get
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,resourceNames=kubernetes,verbs=get
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets;controllerrevisions,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Back-off of failing reconciles. The maximum is how long a FlagCache may wait after
// the cause of its failures was removed.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 2 * time.Minute
	// reconcileTimeout ends a reconcile that waits for its cache to catch up.
	reconcileTimeout = time.Minute
)

// Indexes of FlagCaches by the objects that they refer to.
const (
	indexConfigMap = "spec.flags.configMap.name"
	indexSecret    = "spec.secretRefs"
)

// SetupWithManager watches everything that a FlagCache depends on, including its status:
// a write of another operator, such as one that lost its leader lease, is reverted
// immediately. Results of the prober and the sampler come from results, and changes of
// optional kinds from others; allowed caches the Secrets of others.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, allowed cache.Cache, results <-chan event.GenericEvent, workers int, others ...source.Source) error {
	if err := addIndexes(mgr); err != nil {
		return err
	}
	r.Backoff = workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff)
	b := ctrl.NewControllerManagedBy(mgr).
		Named("flagcache").
		For(&v1alpha1.FlagCache{}).
		WatchesRawSource(source.Kind[client.Object](allowed, bodies.Metadata("Secret"), r.enqueueUsers(indexSecret))).
		Watches(&corev1.ConfigMap{}, r.enqueueUsers(indexConfigMap), builder.OnlyMetadata).
		WatchesRawSource(source.Channel(results, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			ReconciliationTimeout:   reconcileTimeout,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
			NewQueue:                fairqueue.New,
		})
	for _, kind := range childKinds() {
		b = b.Owns(kind.object, kind.projection()...)
	}
	for _, other := range others {
		b = b.WatchesRawSource(other)
	}
	if err := b.Complete(fairqueue.Shared(r, workers)); err != nil {
		return fmt.Errorf("setting up the FlagCache controller: %w", err)
	}
	return nil
}

func addIndexes(mgr ctrl.Manager) error {
	for field, value := range map[string]client.IndexerFunc{indexConfigMap: configMapOf, indexSecret: secretsOf} {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.FlagCache{}, field, value); err != nil {
			return fmt.Errorf("indexing FlagCaches by %s: %w", field, err)
		}
	}
	return nil
}

func configMapOf(o client.Object) []string {
	if ref := o.(*v1alpha1.FlagCache).Spec.Flags.ConfigMap; ref != nil {
		return []string{ref.Name}
	}
	return nil
}

func secretsOf(o client.Object) []string {
	var names []string
	fc := o.(*v1alpha1.FlagCache)
	if secret := caches.Of(fc).Dependencies(fc).Secret; secret != "" {
		names = append(names, secret)
	}
	if fc.Spec.Flags.Postgres != nil {
		names = append(names, fc.Spec.Flags.Postgres.SecretRef.Name)
	}
	return names
}

func (r *Reconciler) enqueueUsers(index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return r.usersOf(ctx, index, client.ObjectKeyFromObject(o))
	})
}

// usersOf returns the FlagCaches that refer to an object.
func (r *Reconciler) usersOf(ctx context.Context, index string, key types.NamespacedName) []reconcile.Request {
	users := &v1alpha1.FlagCacheList{}
	if err := r.Client.List(ctx, users, client.InNamespace(key.Namespace), client.MatchingFields{index: key.Name}); err != nil {
		if ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).Error(err, "Listing FlagCaches by index", "index", index, "object", key)
		}
		return nil
	}
	var requests []reconcile.Request
	for i := range users.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&users.Items[i])})
	}
	return requests
}
