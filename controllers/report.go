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
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// report writes the status of a look. After a stale view there is nothing to
// say unless that lasts: the next look follows at once. Nor is there after a
// FlagCache is gone.
func (r *Reconciler) report(ctx context.Context, req ctrl.Request, seen observed.Snapshot, want plan.Plan, done outcome) error {
	switch {
	case done.stale:
		return r.reportUnseen(ctx, req, seen.FlagCache, append(done.failures, outdated)[0])
	case want.Finalizer == plan.RemoveFinalizer && len(done.failures) == 0:
		return nil
	default:
		return r.writeStatus(ctx, seen.FlagCache, plan.Conclude(seen, want, done.failures))
	}
}

// reportUnseen says, once that has lasted, that the world is not seen as it is.
func (r *Reconciler) reportUnseen(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, why plan.Failure) error {
	if !r.lasts(req) {
		return nil
	}
	return r.writeStatus(ctx, fc, plan.Unseen(fc, r.Clock.Now(), why))
}

// writeStatus writes a status, once and only if it says something new, and
// tells of the transitions.
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
