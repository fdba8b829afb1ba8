// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
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
		return r.writeStatus(ctx, snapshot.FlagCache, plan.Conclude(snapshot, desired, result.failures))
	}
}

// reportUnobserved reports a failure to observe the cluster if it persists.
func (r *Reconciler) reportUnobserved(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, failure plan.Failure) error {
	if !r.persists(req) {
		return nil
	}
	return r.writeStatus(ctx, fc, plan.Unobserved(fc, r.Clock.Now(), failure))
}

// writeStatus writes a status if it changed, and records the transitions.
func (r *Reconciler) writeStatus(ctx context.Context, fc *v1alpha1.FlagCache, status v1alpha1.FlagCacheStatus) error {
	if equality.Semantic.DeepEqual(fc.Status, status) {
		return nil
	}
	before := *fc.Status.DeepCopy()
	r.Rollbacks.BeforeWrite(fc, status)
	patch := client.MergeFromWithOptions(fc.DeepCopy(), client.MergeFromWithOptimisticLock{})
	fc.Status = status
	err := r.Client.Status().Patch(ctx, fc, patch, client.FieldOwner(v1alpha1.FieldManager))
	r.Rollbacks.AfterWrite(fc, err)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	r.recordTransitions(ctx, fc, plan.Transitions(before, status))
	return nil
}

// warn records the warnings that the last reconcile of a FlagCache did not have.
func (r *Reconciler) warn(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, warnings []plan.Event) {
	before, _ := r.warned.Swap(req.NamespacedName, warnings)
	known, _ := before.([]plan.Event)
	for _, e := range warnings {
		if !slices.Contains(known, e) {
			ctrl.LoggerFrom(ctx).Info("Ignoring a request", "reason", e.Reason, "message", e.Message)
			r.Events.Eventf(fc, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
		}
	}
}

// recordTransitions records transitions as events and in the log.
func (r *Reconciler) recordTransitions(ctx context.Context, fc *v1alpha1.FlagCache, transitions []plan.Event) {
	for _, e := range transitions {
		ctrl.LoggerFrom(ctx).Info("Condition changed", "condition", e.Action, "reason", e.Reason, "message", e.Message)
		r.Events.Eventf(fc, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
}
