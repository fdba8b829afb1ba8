// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"reflect"
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
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// view is what a plan rests on.
type view struct {
	seen observed.Snapshot
	// asked says that the API server was asked about it, and answer what came of
	// that.
	asked  bool
	answer error
}

// confirm makes sure, once per look and only when something is to be written,
// that what decides about traffic is as it was seen: the spec, what people ask for
// by annotation, the Service, and the revisions. Each was read from a cache of its
// own, and a cache may be old, after a restart by minutes; by an old view a
// revision that serves would be scaled down, passed over or deleted, and children
// would be made for a FlagCache that is gone.
func (r *Reconciler) confirm(ctx context.Context, v *view) error {
	if !v.asked {
		v.asked, v.answer = true, r.compare(ctx, v.seen)
	}
	return v.answer
}

func (r *Reconciler) compare(ctx context.Context, seen observed.Snapshot) error {
	fc := &v1alpha1.FlagCache{}
	key := client.ObjectKeyFromObject(seen.FlagCache)
	if err := r.Live.Get(ctx, key, fc); err != nil {
		return unlessGone(err, "reading the FlagCache live")
	}
	if fc.UID != seen.FlagCache.UID || fc.Generation != seen.FlagCache.Generation || !maps.Equal(wishes(fc), wishes(seen.FlagCache)) {
		return errStale
	}
	if !fc.DeletionTimestamp.IsZero() {
		return r.compareGroups(ctx, seen)
	}
	if err := r.compareService(ctx, seen); err != nil {
		return err
	}
	if err := r.compareGroups(ctx, seen); err != nil {
		return err
	}
	if err := r.compareTokens(ctx, seen); err != nil {
		return err
	}
	return r.compareRevisions(ctx, seen)
}

// wishes are the annotations by which people say what they want now and not for
// ever: a rejected revision would be tried again by one that was taken away.
func wishes(fc *v1alpha1.FlagCache) map[string]string {
	of := map[string]string{}
	for key, value := range fc.Annotations {
		if strings.HasPrefix(key, v1alpha1.GroupVersion.Group+"/") {
			of[key] = value
		}
	}
	return of
}

func (r *Reconciler) compareService(ctx context.Context, seen observed.Snapshot) error {
	service := &corev1.Service{}
	service.Namespace, service.Name = seen.FlagCache.Namespace, observed.ServiceName(seen.FlagCache)
	observed := lookUp(seen.Children, service)
	switch err := r.Live.Get(ctx, client.ObjectKeyFromObject(service), service); {
	case apierrors.IsNotFound(err) && observed == nil:
		return nil
	case err != nil:
		return unlessGone(err, "reading the Service live")
	case observed == nil && metav1.IsControlledBy(service, seen.FlagCache), observed != nil && !sameVersion(service, observed):
		return errStale
	}
	return nil
}

// compareRevisions asks for what the cache would show, no more and no less: the
// pods of revisions, and what is on record about them.
func (r *Reconciler) compareRevisions(ctx context.Context, seen observed.Snapshot) error {
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &appsv1.ControllerRevisionList{}} {
		if err := r.compareChildren(ctx, seen, list); err != nil {
			return fmt.Errorf("comparing the revisions: %w", err)
		}
	}
	return nil
}

// groupKind is the kind of replication groups.
var groupKind = kindOf(&ack.ReplicationGroup{})

// compareGroups asks for the replication groups that the FlagCache has: one that
// was not seen would be made once more, and taken for gone when the FlagCache is.
func (r *Reconciler) compareGroups(ctx context.Context, seen observed.Snapshot) error {
	if !seen.ACK[groupKind] || !dependsOnACK(seen.FlagCache) {
		return nil
	}
	if err := r.compareChildren(ctx, seen, &ack.ReplicationGroupList{}); err != nil {
		return fmt.Errorf("comparing the replication groups: %w", err)
	}
	return nil
}

// compareTokens asks for the Secrets of a cache in the cloud: by an older token its
// group would be described, and a revision be made, only to be taken back.
func (r *Reconciler) compareTokens(ctx context.Context, seen observed.Snapshot) error {
	if seen.FlagCache.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return nil
	}
	if err := r.compareChildrenWith(ctx, seen, &corev1.SecretList{}, v1alpha1.LabelAllow, v1alpha1.AllowTrue); err != nil {
		return fmt.Errorf("comparing the Secrets: %w", err)
	}
	return nil
}

// compareChildren compares the children of a kind that the cache knows by their
// manager.
func (r *Reconciler) compareChildren(ctx context.Context, seen observed.Snapshot, list client.ObjectList) error {
	return r.compareChildrenWith(ctx, seen, list, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
}

// compareChildrenWith compares the children of a kind that the cache knows by a label.
func (r *Reconciler) compareChildrenWith(ctx context.Context, seen observed.Snapshot, list client.ObjectList, label, value string) error {
	err := r.Live.List(ctx, list, client.InNamespace(seen.FlagCache.Namespace),
		client.MatchingLabels{v1alpha1.LabelName: seen.FlagCache.Name, label: value})
	if err != nil {
		return fmt.Errorf("listing live: %w", err)
	}
	live, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("reading a live list: %w", err)
	}
	if !sameObjects(live, seen.Children, list) {
		return errStale
	}
	return nil
}

// sameObjects tells whether a live list and what was seen of its kind are the same
// objects in the same state.
func sameObjects(live []runtime.Object, children []observed.Object, list client.ObjectList) bool {
	unseen := map[string]client.Object{}
	for _, o := range live {
		unseen[o.(client.Object).GetName()] = o.(client.Object)
	}
	for _, child := range children {
		if reflect.TypeOf(child).Elem().Name()+"List" != reflect.TypeOf(list).Elem().Name() {
			continue
		}
		if o := unseen[child.GetName()]; o == nil || !sameVersion(o, child) {
			return false
		}
		delete(unseen, child.GetName())
	}
	return len(unseen) == 0
}

// unlessGone makes of an object that is gone what it is: an old view.
func unlessGone(err error, attempt string) error {
	if apierrors.IsNotFound(err) {
		return errStale
	}
	return fmt.Errorf("%s: %w", attempt, err)
}

func sameVersion(a, b client.Object) bool {
	return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion()
}
