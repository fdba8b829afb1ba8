// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
)

// report writes the status, once and only if it says something new, and tells
// of the transitions. After a stale view there is nothing to say: the next look
// follows at once.
func (r *Reconciler) report(ctx context.Context, seen plan.Snapshot, want plan.Plan, done outcome) error {
	fc := seen.FlagCache
	if done.stale || want.Finalizer == plan.RemoveFinalizer {
		return nil
	}
	status := plan.Conclude(seen, want, done.failures)
	if equality.Semantic.DeepEqual(fc.Status, status) {
		return nil
	}
	before := *fc.Status.DeepCopy()
	patch := client.MergeFromWithOptions(fc.DeepCopy(), client.MergeFromWithOptimisticLock{})
	fc.Status = status
	err := r.Client.Status().Patch(ctx, fc, patch, client.FieldOwner(v1alpha1.FieldManager))
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	r.announce(ctx, fc, plan.Transitions(before, status))
	return nil
}

// announce tells people by events, and whoever reads the log.
func (r *Reconciler) announce(ctx context.Context, fc *v1alpha1.FlagCache, transitions []plan.Event) {
	for _, e := range transitions {
		ctrl.LoggerFrom(ctx).Info("Condition changed", "condition", e.Action, "reason", e.Reason, "message", e.Message)
		r.Events.Eventf(fc, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
}
