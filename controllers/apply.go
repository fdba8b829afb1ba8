// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// apply applies a plan: the finalizer first when it is added and last when it is
// removed, the objects in between. A failure does not hold back other objects.
func (r *Reconciler) apply(ctx context.Context, snapshot observed.Snapshot, desired plan.Plan) outcome {
	a := applier{client: r.Client, live: r.Live, events: recorder{r.Events}, fresh: freshness{live: r.Live, snapshot: snapshot}}
	var result outcome
	if desired.Finalizer == plan.AddFinalizer {
		result.add(ctx, "adding the finalizer", a.patchFinalizer(ctx, snapshot.FlagCache, controllerutil.AddFinalizer))
	}
	key := client.ObjectKeyFromObject(snapshot.FlagCache)
	r.watchProbe(key, desired.Probe)
	r.watchProbe(nextProbeKey(key), desired.ProbeNext)
	r.watchCanary(snapshot.FlagCache, desired.Evidence)
	watchDelivery(r.Deliveries, key, desired.Delivery)
	watchBroadcast(r.Broadcasts, key, desired.Broadcast)
	if desired.Publish != nil {
		result.add(ctx, "publishing the flags", a.publish(ctx, desired.Publish))
	}
	for _, o := range desired.Apply {
		result.add(ctx, "applying "+describe(o), a.applyObject(ctx, o))
	}
	for _, route := range desired.Routes {
		result.add(ctx, "setting the weights of HTTPRoute "+route.GetName(), a.patchRoute(ctx, route))
	}
	for _, o := range desired.Delete {
		result.add(ctx, "deleting "+describe(o), a.deleteObject(ctx, o))
	}
	if desired.Finalizer == plan.RemoveFinalizer {
		result.add(ctx, "removing the finalizer", a.removeFinalizer(ctx, snapshot.FlagCache))
	}
	if result.retry != nil { // it is logged, and webhooks may repeat what they deny
		result.retry = secret.NewMask(snapshot.Credentials()...).Error(result.retry)
	}
	return result
}

// applier writes the objects of one plan.
type applier struct {
	client client.Client
	live   client.Reader
	events recorder
	fresh  freshness
}

// removeFinalizer removes the finalizer, unless the snapshot lacks a part of the cache that
// still exists.
func (a *applier) removeFinalizer(ctx context.Context, fc *v1alpha1.FlagCache) error {
	if err := a.fresh.checkCache(ctx); err != nil {
		return err
	}
	return a.patchFinalizer(ctx, fc, controllerutil.RemoveFinalizer)
}

func (a *applier) patchFinalizer(ctx context.Context, fc *v1alpha1.FlagCache, change func(client.Object, string) bool) error {
	patch := client.MergeFromWithOptions(fc.DeepCopy(), client.MergeFromWithOptimisticLock{})
	change(fc, v1alpha1.Finalizer)
	err := a.client.Patch(ctx, fc, patch, client.FieldOwner(v1alpha1.FieldManager))
	return client.IgnoreNotFound(err)
}

// applyObject creates an object that is not in the snapshot, and updates one that is,
// unless it is up to date.
func (a *applier) applyObject(ctx context.Context, o observed.Object) error {
	desired, fields, err := prepare(o)
	if err != nil {
		return err
	}
	current := find(a.fresh.snapshot.Children, o)
	if current != nil {
		if upToDate, err := isUpToDate(fields, current); err != nil || upToDate {
			return err
		}
	}
	if err := a.fresh.ensure(ctx); err != nil {
		return err
	}
	if current == nil {
		return a.create(ctx, desired)
	}
	return a.update(ctx, current, desired, fields)
}

// create creates an object that must not exist yet, so that it never takes over an
// object of another owner.
func (a *applier) create(ctx context.Context, desired observed.Object) error {
	ctrl.LoggerFrom(ctx).Info("Creating child", "child", describe(desired))
	wanted := maps.Clone(desired.GetLabels())
	switch err := a.client.Create(ctx, desired, client.FieldOwner(v1alpha1.FieldManager)); {
	case err == nil:
		return a.checkLabels(ctx, desired, wanted)
	case !apierrors.IsAlreadyExists(err):
		return err
	}
	live, err := a.getLive(ctx, desired)
	if err != nil {
		return err
	}
	if !metav1.IsControlledBy(live, a.fresh.snapshot.FlagCache) {
		return nameConflictError{live}
	}
	if hasLabels(live, desired) {
		return errStale
	}
	return a.restoreLabels(ctx, live, desired)
}

// restoreLabels restores the labels of a child from which they were removed, and no
// other fields: those are planned when the cache holds the object again.
func (a *applier) restoreLabels(ctx context.Context, live, desired observed.Object) error {
	ctrl.LoggerFrom(ctx).Info("Restoring child's labels", "child", describe(desired))
	patch := client.MergeFromWithOptions(live.DeepCopyObject().(client.Object), client.MergeFromWithOptimisticLock{})
	merged := maps.Clone(desired.GetLabels())
	for key, value := range live.GetLabels() {
		if _, ok := merged[key]; !ok {
			merged[key] = value
		}
	}
	live.SetLabels(merged)
	if err := a.client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return err
	}
	return a.checkLabels(ctx, live, desired.GetLabels())
}

// update applies the fields to the object of the snapshot. It reads the live object
// first, for its managed fields, and returns errStale if that has another version than
// the one that the fields were planned for.
func (a *applier) update(ctx context.Context, current, desired observed.Object, fields map[string]any) error {
	live, err := a.getLive(ctx, desired)
	if err != nil {
		return err
	}
	if !sameVersion(live, current) {
		return errStale
	}
	if !a.owns(live) {
		return nameConflictError{live}
	}
	ctrl.LoggerFrom(ctx).Info("Updating child", "child", describe(desired))
	if err := a.migrateManagedFields(ctx, live); err != nil {
		return err
	}
	if err := a.removeForeignFields(ctx, live, fields); err != nil {
		return err
	}
	patch, err := applyPatch(fields, live)
	if err != nil {
		return err
	}
	wanted := maps.Clone(desired.GetLabels())
	if err := a.client.Patch(ctx, desired, patch, client.ForceOwnership, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return err
	}
	return a.checkLabels(ctx, desired, wanted)
}

// migrateManagedFields moves the fields that are owned by the object's creation to
// server-side apply. Otherwise a field that is no longer applied would remain, owned by
// the creation (https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply).
func (a *applier) migrateManagedFields(ctx context.Context, live observed.Object) error {
	created := func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == v1alpha1.FieldManager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
	}
	if !slices.ContainsFunc(live.GetManagedFields(), created) {
		return nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(v1alpha1.FieldManager), v1alpha1.FieldManager)
	if err != nil {
		return fmt.Errorf("computing the managed fields: %w", err)
	}
	return a.client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch))
}

// removeForeignFields removes the fields that somebody set and that are not desired.
func (a *applier) removeForeignFields(ctx context.Context, live observed.Object, fields map[string]any) error {
	current, err := fieldsOf(live)
	if err != nil {
		return err
	}
	foreign := foreignFields(fields, current, live)
	if len(foreign) == 0 {
		return nil
	}
	ctrl.LoggerFrom(ctx).Info("Removing fields that others set", "child", describe(live), "fields", foreign)
	patch, err := removalPatch(foreign, live)
	if err != nil {
		return err
	}
	return a.client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager))
}

// deleteObject deletes an object in the version of the snapshot, never its successor.
func (a *applier) deleteObject(ctx context.Context, o observed.Object) error {
	if err := a.fresh.ensure(ctx); err != nil {
		return err
	}
	if !metav1.IsControlledBy(o, a.fresh.snapshot.FlagCache) {
		live, err := a.getLive(ctx, o)
		if err != nil {
			return err
		}
		if !a.owns(live) {
			return nameConflictError{live}
		}
	}
	ctrl.LoggerFrom(ctx).Info("Deleting child", "child", describe(o))
	uid, version := o.GetUID(), o.GetResourceVersion()
	err := a.client.Delete(ctx, o,
		client.Preconditions{UID: &uid, ResourceVersion: &version},
		client.PropagationPolicy(metav1.DeletePropagationBackground))
	return client.IgnoreNotFound(err)
}

// owns reports whether the FlagCache controls an object, or the operator last applied one
// that is to be taken back. Anybody can copy its labels and annotations.
func (a *applier) owns(live observed.Object) bool {
	return metav1.IsControlledBy(live, a.fresh.snapshot.FlagCache) ||
		slices.ContainsFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
			return e.Manager == v1alpha1.FieldManager && e.Subresource == ""
		})
}

// getLive reads an object from the API server; errStale if it does not exist.
func (a *applier) getLive(ctx context.Context, like observed.Object) (observed.Object, error) {
	o := reflect.New(reflect.TypeOf(like).Elem()).Interface().(observed.Object)
	err := a.live.Get(ctx, client.ObjectKeyFromObject(like), o)
	if apierrors.IsNotFound(err) {
		return nil, errStale
	}
	return o, err
}

// errStale is the error of a snapshot that differs from the API server.
var errStale = errors.New("the object changed since it was read")

// nameConflictError is the error of a child whose name is taken by another owner.
type nameConflictError struct{ other observed.Object }

func (e nameConflictError) Error() string {
	return plan.DescribeConflicts([]observed.Object{e.other})
}

// labelError is the error of a label that was written and has another value afterwards.
type labelError struct {
	child      observed.Object
	label, got string
}

func (e labelError) Error() string {
	return fmt.Sprintf("%s: label %s is %q after it was written: exclude it from the admission policy or webhook that changes it", describe(e.child), e.label, e.got)
}

// checkLabels compares the labels of an object that was just written with those that it
// was written with. One that is required and does not stick is an error, another one an
// event.
func (a *applier) checkLabels(ctx context.Context, written observed.Object, wanted map[string]string) error {
	for _, label := range slices.Sorted(maps.Keys(wanted)) {
		got := written.GetLabels()[label]
		if got == wanted[label] {
			continue
		}
		problem := labelError{child: written, label: label, got: got}
		if label != v1alpha1.LabelManagedBy {
			return problem
		}
		ctrl.LoggerFrom(ctx).Info("Leaving a label to another writer", "child", describe(written), "label", label, "value", got)
		a.events.Eventf(a.fresh.snapshot.FlagCache, nil, corev1.EventTypeWarning, v1alpha1.ReasonLabelChanged, v1alpha1.ConditionReady, "%s", problem.Error())
	}
	return nil
}

// find returns the child of the same kind and name, nil if there is none.
func find(children []observed.Object, o observed.Object) observed.Object {
	i := slices.IndexFunc(children, func(child observed.Object) bool { return observed.Same(child, o) })
	if i < 0 {
		return nil
	}
	return children[i]
}

// describe returns kind and name of an object, such as "Deployment demo-3f2a91c0".
func describe(o observed.Object) string {
	return observed.KindOf(o) + " " + o.GetName()
}
