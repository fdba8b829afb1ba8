// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Back-off of the operator's queue, as configured by SetupWithManager.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 2 * time.Minute
)

// queue simulates the operator's workqueue with its only key.
type queue struct {
	// dirty reports an event since the last reconciliation began.
	dirty bool
	// later is the earliest scheduled reconciliation.
	later time.Time
	// ready is when a starting operator begins to reconcile.
	ready time.Time
	// failed is the back-off after failed reconciliations.
	failed backoff
	// stale is the back-off after reconciliations with stale state.
	stale backoff
	// loseNext is the number of events to lose, addNext the number of additional reconciliations.
	loseNext, addNext int
}

// backoff doubles with each failure.
type backoff struct{ failures int }

// When counts a failure and returns the delay after it.
func (b *backoff) When(ctrl.Request) time.Duration {
	b.failures++
	return min(firstBackoff<<min(b.failures-1, 20), lastBackoff)
}

// NumRequeues returns the number of consecutive failures.
func (b *backoff) NumRequeues(ctrl.Request) int { return b.failures }

// Forget resets the back-off.
func (b *backoff) Forget(ctrl.Request) { b.failures = 0 }

// enqueue requests a reconciliation.
func (q *queue) enqueue(now time.Time) {
	if q.loseNext > 0 {
		q.loseNext--
		q.enqueueAfter(now, resync)
		return
	}
	q.dirty = true
}

func (q *queue) enqueueAfter(now time.Time, d time.Duration) {
	if at := now.Add(d); q.later.IsZero() || at.Before(q.later) {
		q.later = at
	}
}

// next returns the time of the next reconciliation.
func (q *queue) next(now time.Time) time.Time {
	at := q.later
	if q.dirty {
		at = now
	}
	if !at.IsZero() && at.Before(q.ready) {
		return q.ready
	}
	return at
}

func (q *queue) due(now time.Time) bool {
	at := q.next(now)
	return !at.IsZero() && !now.Before(at)
}

// pop removes the key for a reconciliation.
func (q *queue) pop(now time.Time) {
	q.dirty = false
	if !q.later.After(now) {
		q.later = time.Time{}
	}
}

// done processes the result of a reconciliation like controller-runtime.
func (q *queue) done(now time.Time, result ctrl.Result, err error) {
	if err != nil {
		q.enqueueAfter(now, q.failed.When(request))
		return
	}
	q.failed.Forget(request)
	if result.RequeueAfter > 0 {
		q.enqueueAfter(now, result.RequeueAfter)
	}
	if q.addNext > 0 {
		q.addNext--
		q.dirty = true
	}
}

// triggers reports whether the operator watches a change.
func (w *World) triggers(k kind, before, after client.Object) bool {
	if w.cache.isOld() && w.cache.covers(k) {
		return false
	}
	for _, o := range []client.Object{before, after} {
		if o == nil {
			continue
		}
		_, isFlagCache := o.(*v1alpha1.FlagCache)
		switch {
		case isFlagCache:
			return true
		case ownedByName(o) && cacheHolds(k, o), w.refersTo(k, o):
			return true
		}
	}
	return false
}

func cacheHolds(k kind, o client.Object) bool {
	return cacheSelectors[k] == nil || cacheSelectors[k].Matches(labelSet(o))
}

// ownedByName reports whether the watch maps an object to the FlagCache, by the kind and name of
// its owner, not the UID.
func ownedByName(o client.Object) bool {
	owner := metav1.GetControllerOf(o)
	return owner != nil && owner.Kind == "FlagCache" && owner.Name == name
}

// refersTo reports whether the FlagCache refers to the object in its spec.
func (w *World) refersTo(k kind, o client.Object) bool {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return false
	}
	switch k {
	case secrets:
		return fc.Spec.Cache.External != nil && fc.Spec.Cache.External.SecretRef.Name == o.GetName() && cacheHolds(k, o)
	case configMaps:
		return fc.Spec.Flags.ConfigMap != nil && fc.Spec.Flags.ConfigMap.Name == o.GetName()
	}
	return false
}
