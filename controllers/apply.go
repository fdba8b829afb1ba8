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
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// outcome is what became of a plan.
type outcome struct {
	// failures are what a person should know, first one first.
	failures []plan.Failure
	// retry is why the plan is to be tried again, with back-off.
	retry error
	// stale says that the plan rested on an old view: what it did not do is not
	// worth a word, the next look decides anew.
	stale bool
	// lookAgain is when to look again at a failure that waiting may mend but no
	// watch will tell of.
	lookAgain time.Duration
}

// apply makes the plan so: the finalizer first when it is added and last when
// it is removed, the objects in between. One that fails does not hold back the
// others.
func (r *Reconciler) apply(ctx context.Context, seen observed.Snapshot, want plan.Plan) outcome {
	var done outcome
	if want.Finalizer == plan.AddFinalizer {
		done.add(ctx, "adding the finalizer", r.setFinalizer(ctx, seen.FlagCache, controllerutil.AddFinalizer))
	}
	key := client.ObjectKeyFromObject(seen.FlagCache)
	r.watch(key, want.Probe)
	r.watch(nextProbe(key), want.ProbeNext)
	r.sample(seen.FlagCache, want.Evidence)
	view := &view{seen: seen}
	for _, o := range want.Apply {
		done.add(ctx, "applying "+describe(o), r.applyObject(ctx, view, o))
	}
	for _, route := range want.Routes {
		done.add(ctx, "setting the weights of HTTPRoute "+route.GetName(), r.changeRoute(ctx, view, route))
	}
	for _, o := range want.Delete {
		done.add(ctx, "deleting "+describe(o), r.deleteObject(ctx, view, o))
	}
	if want.Finalizer == plan.RemoveFinalizer {
		done.add(ctx, "removing the finalizer", r.release(ctx, seen))
	}
	return done
}

// watch has the prober follow the plan.
func (r *Reconciler) watch(key types.NamespacedName, target *plan.ProbeTarget) {
	if target == nil {
		r.Prober.Forget(key)
		return
	}
	r.Prober.Watch(key, probeTarget(target))
}

// release lets a FlagCache go, unless something of it runs in the cloud that was
// not seen.
func (r *Reconciler) release(ctx context.Context, seen observed.Snapshot) error {
	if err := r.compareGroups(ctx, seen); err != nil {
		return err
	}
	return r.setFinalizer(ctx, seen.FlagCache, controllerutil.RemoveFinalizer)
}

func (r *Reconciler) setFinalizer(ctx context.Context, fc *v1alpha1.FlagCache, change func(client.Object, string) bool) error {
	patch := client.MergeFromWithOptions(fc.DeepCopy(), client.MergeFromWithOptimisticLock{})
	change(fc, v1alpha1.Finalizer)
	err := r.Client.Patch(ctx, fc, patch, client.FieldOwner(v1alpha1.FieldManager))
	return client.IgnoreNotFound(err)
}

// applyObject creates an object that was not seen, and brings one that was seen
// to what it should be, unless it is so already.
func (r *Reconciler) applyObject(ctx context.Context, v *view, o observed.Object) error {
	desired, fields, err := prepare(o)
	if err != nil {
		return err
	}
	observed := lookUp(v.seen.Children, o)
	if observed != nil {
		if current, err := upToDate(fields, observed); err != nil || current {
			return err
		}
	}
	if err := r.confirm(ctx, v); err != nil {
		return err
	}
	if observed == nil {
		return r.create(ctx, v.seen.FlagCache, desired)
	}
	return r.update(ctx, observed, desired, fields)
}

// create makes an object that must not exist yet, so nobody else's is touched.
func (r *Reconciler) create(ctx context.Context, fc *v1alpha1.FlagCache, desired observed.Object) error {
	ctrl.LoggerFrom(ctx).Info("Creating a child", "child", describe(desired))
	err := r.Client.Create(ctx, desired, client.FieldOwner(v1alpha1.FieldManager))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	live, err := r.live(ctx, desired)
	if err != nil {
		return err
	}
	if !metav1.IsControlledBy(live, fc) {
		return nameTakenError{live}
	}
	if visible(live, desired) {
		return errStale
	}
	return r.relabel(ctx, live, desired)
}

// visible tells whether an object has the labels by which the cache finds it.
func visible(live, desired observed.Object) bool {
	return labels.SelectorFromSet(desired.GetLabels()).Matches(labels.Set(live.GetLabels()))
}

// relabel gives an object of ours back the labels that somebody took away, and
// nothing else: what its fields should be is decided when it is seen again.
func (r *Reconciler) relabel(ctx context.Context, live, desired observed.Object) error {
	ctrl.LoggerFrom(ctx).Info("Restoring a child's labels", "child", describe(desired))
	patch := client.MergeFromWithOptions(live.DeepCopyObject().(client.Object), client.MergeFromWithOptimisticLock{})
	merged := maps.Clone(desired.GetLabels())
	for key, value := range live.GetLabels() {
		if _, ours := merged[key]; !ours {
			merged[key] = value
		}
	}
	live.SetLabels(merged)
	return r.Client.Patch(ctx, live, patch, client.FieldOwner(v1alpha1.FieldManager))
}

// update applies the fields to the object that was observed. It is read live
// first, for its managed fields, and because the fields were decided on by what
// was observed: an object that is another by now is decided on anew.
func (r *Reconciler) update(ctx context.Context, observed, desired observed.Object, fields map[string]any) error {
	live, err := r.live(ctx, desired)
	if err != nil {
		return err
	}
	if !sameVersion(live, observed) {
		return errStale
	}
	ctrl.LoggerFrom(ctx).Info("Updating a child", "child", describe(desired))
	if err := r.takeOverCreation(ctx, live); err != nil {
		return err
	}
	patch, err := applyPatch(fields, live)
	if err != nil {
		return err
	}
	return r.Client.Patch(ctx, desired, patch, client.ForceOwnership, client.FieldOwner(v1alpha1.FieldManager))
}

// takeOverCreation makes the fields that Create set fields that apply set.
// Otherwise a field that is not applied any more would stay, owned by the
// creation (https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply).
func (r *Reconciler) takeOverCreation(ctx context.Context, live observed.Object) error {
	created := func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == v1alpha1.FieldManager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
	}
	if !slices.ContainsFunc(live.GetManagedFields(), created) {
		return nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(v1alpha1.FieldManager), v1alpha1.FieldManager)
	if err != nil {
		return fmt.Errorf("computing who owns its fields: %w", err)
	}
	return r.Client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch))
}

// deleteObject deletes what was seen and nothing that came in its place.
func (r *Reconciler) deleteObject(ctx context.Context, v *view, o observed.Object) error {
	if err := r.confirm(ctx, v); err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("Deleting a child", "child", describe(o))
	uid, version := o.GetUID(), o.GetResourceVersion()
	err := r.Client.Delete(ctx, o,
		client.Preconditions{UID: &uid, ResourceVersion: &version},
		client.PropagationPolicy(metav1.DeletePropagationBackground))
	return client.IgnoreNotFound(err)
}

// live reads an object from the API server.
func (r *Reconciler) live(ctx context.Context, like observed.Object) (observed.Object, error) {
	o := reflect.New(reflect.TypeOf(like).Elem()).Interface().(observed.Object)
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(like), o)
	if apierrors.IsNotFound(err) {
		return nil, errStale
	}
	return o, err
}

// errStale says that the world is not as it was seen.
var errStale = errors.New("the object changed since it was read")

// nameTakenError says that a child's name is somebody else's.
type nameTakenError struct{ other observed.Object }

func (e nameTakenError) Error() string {
	return fmt.Sprintf("%s exists and is not this FlagCache's: delete or rename it, or choose another name for the FlagCache", describe(e.other))
}

// lookUp finds an object among those that were seen.
func lookUp(children []observed.Object, o observed.Object) observed.Object {
	for _, child := range children {
		if reflect.TypeOf(child) == reflect.TypeOf(o) && child.GetName() == o.GetName() {
			return child
		}
	}
	return nil
}

// describe names an object for a person: "Deployment demo-3f2a91c0".
func describe(o observed.Object) string {
	return kindOf(o) + " " + o.GetName()
}

func kindOf(o client.Object) string {
	return reflect.TypeOf(o).Elem().Name()
}
