// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

const (
	// fleetNamespaces is over how many namespaces a fleet is spread.
	fleetNamespaces = 10
	// fleetConcurrency is how many objects of a fleet are made at a time.
	fleetConcurrency = 8
	// fleetLimit is how long a fleet may take to be Ready.
	fleetLimit = 10 * time.Minute
	// fleetProgressInterval is how often there is a line about who is Ready.
	fleetProgressInterval = 5 * time.Second
)

// tenants are the namespaces of a fleet of n.
func (b *fleetBench) tenants(n int) []tenant {
	var tenants []tenant
	for i := range min(n, fleetNamespaces) {
		tenants = append(tenants, tenant{namespace: fmt.Sprintf("fleet-of-%d-%d", n, i), flags: b.flags, redis: b.redis})
	}
	return tenants
}

// createFleet returns when n FlagCaches are Ready.
func (b *fleetBench) createFleet(ctx context.Context, n int) error {
	tenants := b.tenants(n)
	for _, t := range tenants {
		if err := b.prepareNamespace(ctx, t); err != nil {
			return err
		}
	}
	b.progress.log("%d FlagCaches: making them in %d namespaces", n, len(tenants))
	ctx, cancel := context.WithTimeout(ctx, fleetLimit)
	defer cancel()
	made := make(chan error, 1)
	go func() {
		err := b.createFlagCaches(ctx, n, tenants)
		if err != nil {
			cancel()
		}
		made <- err
	}()
	err := b.awaitReady(ctx, n)
	return errors.Join(<-made, err)
}

// createFlagCaches makes n FlagCaches, a few at a time, and stops at the first error.
func (b *fleetBench) createFlagCaches(ctx context.Context, n int, tenants []tenant) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fleetConcurrency)
	for i := range n {
		group.Go(func() error {
			fc := tenants[i%len(tenants)].flagCache(fmt.Sprintf("cache-%d", i), v1alpha1.CacheExternal)
			if err := b.Client.Create(ctx, fc); err != nil {
				return fmt.Errorf("making FlagCache %s: %w", fc.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// prepareNamespace makes a namespace with its flags and the way to Redis.
func (b *fleetBench) prepareNamespace(ctx context.Context, t tenant) error {
	if err := t.createNamespace(ctx, b.Client); err != nil {
		return err
	}
	secret, err := t.secret()
	if err != nil {
		return err
	}
	if err := errors.Join(b.Client.Create(ctx, t.configMap()), b.Client.Create(ctx, secret)); err != nil {
		return fmt.Errorf("furnishing namespace %s: %w", t.namespace, err)
	}
	return nil
}

// awaitReady returns when n FlagCaches are Ready, and tells how it goes.
func (b *fleetBench) awaitReady(ctx context.Context, n int) error {
	ready := map[types.UID]bool{}
	news := time.NewTicker(fleetProgressInterval)
	defer news.Stop()
	for len(ready) < n {
		if err := b.countReady(ctx, n, ready, news.C); err != nil {
			return fmt.Errorf("waiting for FlagCaches to be Ready, %d of %d are: %w%s", len(ready), n, err, b.unreadyExample())
		}
	}
	return nil
}

// unreadyExample is what one of the FlagCaches that are not Ready says about it, for an
// error message.
func (b *fleetBench) unreadyExample() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list := &v1alpha1.FlagCacheList{}
	if err := b.Client.List(ctx, list); err != nil {
		return ""
	}
	for i := range list.Items {
		fc := &list.Items[i]
		if ready := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionReady); ready != nil && !isReady(fc) {
			return fmt.Sprintf("; %s/%s says: %s", fc.Namespace, fc.Name, ready.Message)
		}
	}
	return ""
}

// countReady follows the FlagCaches until n are Ready or the API server ends the
// watch.
func (b *fleetBench) countReady(ctx context.Context, n int, ready map[types.UID]bool, news <-chan time.Time) error {
	see := func(o runtime.Object) {
		if fc, ok := o.(*v1alpha1.FlagCache); ok && isReady(fc) {
			ready[fc.UID] = true
		}
	}
	list := &v1alpha1.FlagCacheList{}
	if err := b.Client.List(ctx, list); err != nil {
		return err
	}
	for i := range list.Items {
		see(&list.Items[i])
	}
	since := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}}
	changes, err := b.Client.Watch(ctx, &v1alpha1.FlagCacheList{}, since)
	if err != nil {
		return err
	}
	defer changes.Stop()
	for len(ready) < n {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
			b.progress.log("%d FlagCaches: %d are Ready", n, len(ready))
		case event, ok := <-changes.ResultChan():
			if !ok {
				return nil
			}
			see(event.Object)
		}
	}
	return nil
}

// deleteFleet deletes n FlagCaches and returns when their pods are gone.
func (b *fleetBench) deleteFleet(ctx context.Context, n int) error {
	for _, t := range b.tenants(n) {
		if err := b.Client.DeleteAllOf(ctx, &v1alpha1.FlagCache{}, client.InNamespace(t.namespace)); err != nil {
			return fmt.Errorf("deleting the FlagCaches of namespace %s: %w", t.namespace, err)
		}
	}
	flagCaches, pods := &v1alpha1.FlagCacheList{}, &corev1.PodList{}
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		err := errors.Join(b.Client.List(ctx, flagCaches), b.Client.List(ctx, pods))
		return len(flagCaches.Items)+len(pods.Items) == 0, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the end of %d FlagCaches, %d and %d pods are left: %w", n, len(flagCaches.Items), len(pods.Items), err)
	}
	return nil
}
