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
	// fleetNamespaces is the number of namespaces that a fleet is spread over.
	fleetNamespaces = 10
	// fleetConcurrency is the number of concurrent creations.
	fleetConcurrency = 8
	// fleetProgressInterval is the interval of progress messages.
	fleetProgressInterval = 5 * time.Second
)

// tenants returns the namespaces of a fleet of n FlagCaches.
func (b *fleetBench) tenants(n int) []tenant {
	var tenants []tenant
	for i := range min(n, fleetNamespaces) {
		tenants = append(tenants, tenant{namespace: fmt.Sprintf("fleet-of-%d-%d", n, i), flags: b.flags, redis: b.redis})
	}
	return tenants
}

// createFleet creates n FlagCaches and waits until they are Ready.
func (b *fleetBench) createFleet(ctx context.Context, n int) error {
	tenants := b.tenants(n)
	for _, t := range tenants {
		if err := b.prepareNamespace(ctx, t); err != nil {
			return err
		}
	}
	b.progress.log("%d FlagCaches: creating them in %d namespaces", n, len(tenants))
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	created := make(chan error, 1)
	go func() {
		err := b.createFlagCaches(ctx, 0, n, tenants)
		if err != nil {
			cancel()
		}
		created <- err
	}()
	err := b.awaitReady(ctx, n)
	return errors.Join(<-created, err)
}

// createFlagCaches creates the FlagCaches from one number up to n concurrently and stops at the
// first error.
func (b *fleetBench) createFlagCaches(ctx context.Context, from, n int, tenants []tenant) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fleetConcurrency)
	for i := from; i < n; i++ {
		group.Go(func() error {
			fc := tenants[i%len(tenants)].flagCache(fmt.Sprintf("cache-%d", i), v1alpha1.CacheExternal)
			if err := b.Client.Create(ctx, fc); err != nil {
				return fmt.Errorf("creating FlagCache %s: %w", fc.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// prepareNamespace creates a namespace with its flags and the connection to Redis.
func (b *fleetBench) prepareNamespace(ctx context.Context, t tenant) error {
	if err := t.createNamespace(ctx, b.Client); err != nil {
		return err
	}
	secret, err := t.secret()
	if err != nil {
		return err
	}
	if err := errors.Join(b.Client.Create(ctx, t.configMap()), b.Client.Create(ctx, secret)); err != nil {
		return fmt.Errorf("preparing namespace %s: %w", t.namespace, err)
	}
	return nil
}

// awaitReady waits until n FlagCaches are Ready and reports progress.
func (b *fleetBench) awaitReady(ctx context.Context, n int) error {
	ready := map[types.UID]bool{}
	ticker := time.NewTicker(fleetProgressInterval)
	defer ticker.Stop()
	for len(ready) < n {
		if err := b.countReady(ctx, n, ready, ticker.C); err != nil {
			return fmt.Errorf("waiting for FlagCaches to be Ready, %d of %d are: %w%s", len(ready), n, err, b.unreadyExample())
		}
	}
	return nil
}

// unreadyExample describes one FlagCache that is not Ready, for an error message.
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
			return fmt.Sprintf("; %s/%s: %s", fc.Namespace, fc.Name, ready.Message)
		}
	}
	return ""
}

// countReady watches the FlagCaches until n are Ready or the API server ends the watch.
func (b *fleetBench) countReady(ctx context.Context, n int, ready map[types.UID]bool, tick <-chan time.Time) error {
	record := func(o runtime.Object) {
		if fc, ok := o.(*v1alpha1.FlagCache); ok && isReady(fc) {
			ready[fc.UID] = true
		}
	}
	list := &v1alpha1.FlagCacheList{}
	if err := b.Client.List(ctx, list); err != nil {
		return err
	}
	for i := range list.Items {
		record(&list.Items[i])
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
		case <-tick:
			b.progress.log("%d FlagCaches: %d are Ready", n, len(ready))
		case event, ok := <-changes.ResultChan():
			if !ok {
				return nil
			}
			record(event.Object)
		}
	}
	return nil
}

// deleteFleet deletes n FlagCaches and waits until their pods are deleted.
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
		return fmt.Errorf("waiting for the deletion of %d FlagCaches, %d and %d pods are left: %w", n, len(flagCaches.Items), len(pods.Items), err)
	}
	return nil
}
