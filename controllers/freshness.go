// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// freshness checks a snapshot against the API server before anything is written.
//
// The snapshot was read from several caches, and a cache may be stale, after a restart
// by minutes. A plan made from stale revisions would scale down, skip or delete the
// revision that serves, and one made from a stale FlagCache would create children of a
// deleted FlagCache.
type freshness struct {
	live     client.Reader
	snapshot observed.Snapshot
	// checked is set after the first check, and err is its result.
	checked bool
	err     error
}

// ensure returns errStale unless everything that decides about traffic is in the
// snapshot as it is on the API server: the spec, the request annotations, the operator
// that handles it, the Service, and the revisions. It reads from the API server once per reconcile.
func (f *freshness) ensure(ctx context.Context) error {
	if !f.checked {
		f.checked, f.err = true, f.check(ctx)
	}
	return f.err
}

func (f *freshness) check(ctx context.Context) error {
	fc, observedFC := &v1alpha1.FlagCache{}, f.snapshot.FlagCache
	if err := f.live.Get(ctx, client.ObjectKeyFromObject(observedFC), fc); err != nil {
		return staleIfNotFound(err, "reading the FlagCache from the API server")
	}
	if fc.UID != observedFC.UID || fc.Generation != observedFC.Generation || fc.Status.Operator != observedFC.Status.Operator || !maps.Equal(requestsOf(fc), requestsOf(observedFC)) {
		return errStale
	}
	if !fc.DeletionTimestamp.IsZero() {
		return f.checkCache(ctx)
	}
	for _, check := range []func(context.Context) error{f.checkService, f.checkCache, f.checkRevisions} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// requestsOf returns the annotations by which users request an action. Acting on one
// that was removed would, for example, retry a rejected revision.
func requestsOf(fc *v1alpha1.FlagCache) map[string]string {
	requests := map[string]string{}
	for key, value := range fc.Annotations {
		if isRequest(key) {
			requests[key] = value
		}
	}
	return requests
}

func (f *freshness) checkService(ctx context.Context) error {
	fc, service := f.snapshot.FlagCache, &corev1.Service{}
	service.Namespace, service.Name = fc.Namespace, observed.ServiceName(fc)
	current := find(f.snapshot.Children, service)
	switch err := f.live.Get(ctx, client.ObjectKeyFromObject(service), service); {
	case apierrors.IsNotFound(err) && current == nil:
		return nil
	case err != nil:
		return staleIfNotFound(err, "reading the Service from the API server")
	case current == nil && metav1.IsControlledBy(service, fc), current != nil && !sameVersion(service, current):
		return errStale
	}
	return nil
}

// checkRevisions checks the Deployments and ControllerRevisions of the revisions.
func (f *freshness) checkRevisions(ctx context.Context) error {
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &appsv1.ControllerRevisionList{}} {
		if err := f.checkChildren(ctx, list); err != nil {
			return fmt.Errorf("checking the revisions: %w", err)
		}
	}
	return nil
}

// checkCache checks the children that the cache's planner depends on: a stale view of
// them would harm the cache.
func (f *freshness) checkCache(ctx context.Context) error {
	for _, list := range caches.Dependencies(f.snapshot.FlagCache).Current {
		kind := strings.TrimSuffix(kindOfList(list), "List")
		if !f.isServed(kind) {
			continue
		}
		if kind == "Secret" { // only the versions count, and others may label large ones
			metadata := &metav1.PartialObjectMetadataList{}
			metadata.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
			list = metadata
		}
		if err := f.checkChildren(ctx, list); err != nil {
			return fmt.Errorf("checking the children of kind %s: %w", kind, err)
		}
	}
	return nil
}

// isServed reports whether the API server serves a kind. Kinds of ACK are optional.
func (f *freshness) isServed(kind string) bool {
	optional := slices.ContainsFunc(ack.Kinds(), func(k ack.Kind) bool { return k.Kind == kind })
	return !optional || f.snapshot.ACK[kind]
}

// checkChildren checks the children of one kind.
func (f *freshness) checkChildren(ctx context.Context, list client.ObjectList) error {
	fc := f.snapshot.FlagCache
	err := f.live.List(ctx, list, client.InNamespace(fc.Namespace), client.MatchingLabels{v1alpha1.LabelName: fc.Name})
	if err != nil {
		return fmt.Errorf("listing from the API server: %w", err)
	}
	live, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("unpacking a list: %w", err)
	}
	if !sameObjects(live, f.snapshot.Children, strings.TrimSuffix(kindOfList(list), "List")) {
		return errStale
	}
	return nil
}

// kindOfList returns the kind of a list, such as "SecretList".
func kindOfList(list client.ObjectList) string {
	if kind := list.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	name := fmt.Sprintf("%T", list)
	return name[strings.LastIndex(name, ".")+1:]
}

// sameObjects reports whether the live objects are the children of the kind in the same
// versions.
func sameObjects(live []runtime.Object, children []observed.Object, kind string) bool {
	missing := map[string]client.Object{}
	for _, o := range live {
		missing[o.(client.Object).GetName()] = o.(client.Object)
	}
	for _, child := range children {
		if observed.KindOf(child) != kind {
			continue
		}
		if o := missing[child.GetName()]; o == nil || !sameVersion(o, child) {
			return false
		}
		delete(missing, child.GetName())
	}
	return len(missing) == 0
}

// staleIfNotFound turns a NotFound error into errStale, and wraps any other.
func staleIfNotFound(err error, attempt string) error {
	if apierrors.IsNotFound(err) {
		return errStale
	}
	return fmt.Errorf("%s: %w", attempt, err)
}

func sameVersion(a, b client.Object) bool {
	return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion()
}
