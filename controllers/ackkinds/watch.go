// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackkinds

import (
	"context"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// watchedKind is a kind that the cluster serves.
type watchedKind struct {
	client client.Client
	// stop ends the watch and waits for its end.
	stop func()
}

// watch starts watching a kind.
func (k *Kinds) watch(ctx context.Context, kind ack.Kind, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) (*watchedKind, error) {
	ctx, cancel := context.WithCancel(ctx)
	objects, err := cache.New(k.mgr.GetConfig(), k.options)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watchedKind{}
	if w.client, err = k.newClient(objects); err == nil {
		err = k.enqueueOwners(ctx, objects, kind, queue)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := objects.Start(ctx); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Watching an ACK kind", "kind", kind.Kind)
		}
	}()
	w.stop = func() {
		cancel()
		<-stopped
	}
	limited, cancelLimited := context.WithTimeout(ctx, ReadTimeout)
	defer cancelLimited()
	if !objects.WaitForCacheSync(limited) && ctx.Err() == nil {
		ctrl.LoggerFrom(ctx).Info("An ACK kind is installed but cannot be read; check the permissions of the operator's role", "kind", kind.Kind)
	}
	return w, nil
}

// newClient returns a client that reads from a cache, including its own writes.
func (k *Kinds) newClient(objects cache.Cache) (client.Client, error) {
	return client.New(k.mgr.GetConfig(), client.Options{
		Scheme: k.mgr.GetScheme(), Mapper: k.mgr.GetRESTMapper(), HTTPClient: k.mgr.GetHTTPClient(),
		Cache: &client.CacheOptions{Reader: objects, EnableReadYourWritesConsistency: ptr.To(true)},
	})
}

// enqueueOwners adds the owner of a changed object to the queue.
func (k *Kinds) enqueueOwners(ctx context.Context, objects cache.Cache, kind ack.Kind, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	informer, err := objects.GetInformer(ctx, kind.New(), cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	owners := handler.EnqueueRequestForOwner(k.mgr.GetScheme(), k.mgr.GetRESTMapper(), &v1alpha1.FlagCache{}, handler.OnlyControllerOwner())
	return (&source.Informer{Informer: informer, Handler: owners}).Start(ctx, queue)
}
