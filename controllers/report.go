// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/exporter"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/printable"
)

// report writes the status. A stale snapshot is reported only if it persists, because
// the next reconcile follows immediately, and a removed FlagCache has no status.
func (r *Reconciler) report(ctx context.Context, req ctrl.Request, snapshot observed.Snapshot, desired plan.Plan, result outcome) error {
	switch {
	case result.stale:
		return r.reportUnobserved(ctx, req, snapshot.FlagCache, append(result.failures, staleFailure)[0])
	case desired.Finalizer == plan.RemoveFinalizer && len(result.failures) == 0:
		return nil
	default:
		return r.writeStatus(ctx, snapshot.FlagCache, plan.Conclude(snapshot, desired, result.failures), secret.NewMask(snapshot.Credentials()...))
	}
}

// reportUnobserved reports a failure to observe the cluster if it persists.
func (r *Reconciler) reportUnobserved(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, failure plan.Failure) error {
	if !r.persists(req) {
		return nil
	}
	return r.writeStatus(ctx, fc, plan.Unobserved(fc, r.Clock.Now(), failure), secret.Mask{})
}

// writeStatus writes a status. One that the API server rejects is replaced by one that
// says so: the last one written, Ready, would
// stay for ever.
func (r *Reconciler) writeStatus(ctx context.Context, fc *v1alpha1.FlagCache, status v1alpha1.FlagCacheStatus, mask secret.Mask) error {
	before := *fc.Status.DeepCopy()
	err := patchStatus(ctx, r.Client, &r.Rollbacks, recorder{r.Events}, fc, bounded(status, mask))
	if !isRejected(err) {
		return client.IgnoreNotFound(err)
	}
	ctrl.LoggerFrom(ctx).Error(err, "Writing the status: the API server rejects it")
	fc.Status = before
	why := plan.Failure{Reason: v1alpha1.ReasonStatusRejected, Message: fmt.Sprintf("The API server rejects the status, and the other conditions are those of before: %v", err)}
	return errors.Join(err, client.IgnoreNotFound(patchStatus(ctx, r.Client, &r.Rollbacks, recorder{r.Events}, fc, bounded(plan.Unreported(fc, r.Clock.Now(), why), mask))))
}

// isRejected reports whether the API server rejects what was written, and would again.
func isRejected(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// patchStatus writes a status if it changed, and records the transitions.
func patchStatus(ctx context.Context, c client.Client, rollbacks *exporter.Rollbacks, to recorder, fc *v1alpha1.FlagCache, status v1alpha1.FlagCacheStatus) error {
	if equality.Semantic.DeepEqual(fc.Status, status) {
		return nil
	}
	before := *fc.Status.DeepCopy()
	rollbacks.BeforeWrite(fc, status)
	patch := client.MergeFromWithOptions(fc.DeepCopy(), client.MergeFromWithOptimisticLock{})
	fc.Status = status
	err := c.Status().Patch(ctx, fc, patch, client.FieldOwner(v1alpha1.FieldManager))
	rollbacks.AfterWrite(fc, err)
	if err != nil {
		return err
	}
	to.transitions(ctx, fc, plan.Transitions(before, status))
	return nil
}

// bounded returns a status whose texts are printable and bounded, and have no credentials.
// Others write a part of them: keys of flags, AWS, webhooks, pods.
func bounded(status v1alpha1.FlagCacheStatus, mask secret.Mask) v1alpha1.FlagCacheStatus {
	copied := status.DeepCopy()
	changeTexts(reflect.ValueOf(copied).Elem(), func(text string) string {
		return printable.Text(mask.Text(text), printable.MaxMessage)
	})
	return *copied
}

// changeTexts changes all exported texts within a value.
func changeTexts(v reflect.Value, change func(string) string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(change(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			changeTexts(v.Elem(), change)
		}
	case reflect.Slice:
		for i := range v.Len() {
			changeTexts(v.Index(i), change)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			changeTexts(v.Field(i), change)
		}
	default: // a status has no maps
	}
}

// recorder records events whose notes are printable and bounded.
type recorder struct{ to events.EventRecorder }

// Eventf implements events.EventRecorder.
func (r recorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	r.to.Eventf(regarding, related, kind, reason, action, "%s", printable.Text(fmt.Sprintf(note, args...), printable.MaxNote))
}

// warn records the warnings that the last reconcile of a FlagCache did not have.
func (r *Reconciler) warn(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, warnings []plan.Event) {
	before, _ := r.warned.Swap(req.NamespacedName, warnings)
	known, _ := before.([]plan.Event)
	for _, e := range warnings {
		if !slices.Contains(known, e) {
			ctrl.LoggerFrom(ctx).Info("Ignoring a request", "reason", e.Reason, "message", printable.Text(e.Message, printable.MaxMessage))
			recorder{r.Events}.Eventf(fc, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
		}
	}
}

// transitions records transitions as events and in the log.
func (r recorder) transitions(ctx context.Context, fc *v1alpha1.FlagCache, transitions []plan.Event) {
	for _, e := range transitions {
		ctrl.LoggerFrom(ctx).Info("Condition changed", "condition", e.Action, "reason", e.Reason, "message", e.Message)
		r.Eventf(fc, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
}
