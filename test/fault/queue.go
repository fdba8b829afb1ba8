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

// Back-off of the operator's queue, as SetupWithManager has it.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 2 * time.Minute
)

// queue is the operator's work queue with its one key.
type queue struct {
	// dirty says that something happened since the last look began.
	dirty bool
	// later is the earliest look that was asked for by time.
	later time.Time
	// ready is when a starting operator begins to work.
	ready time.Time
	// failed is the back-off of looks that failed.
	failed backoff
	// stale is the back-off of looks that rested on an old view.
	stale backoff
	// lose is how many wake-ups will get lost, extra how many looks come on top.
	lose, extra int
}

// backoff doubles from one failure to the next.
type backoff struct{ failures int }

// When is how long to wait after one more failure.
func (b *backoff) When(ctrl.Request) time.Duration {
	b.failures++
	return min(firstBackoff<<min(b.failures-1, 20), lastBackoff)
}

// NumRequeues is how many failures there were in a row.
func (b *backoff) NumRequeues(ctrl.Request) int { return b.failures }

// Forget begins again.
func (b *backoff) Forget(ctrl.Request) { b.failures = 0 }

// wake asks for a look at once.
func (q *queue) wake(now time.Time) {
	if q.lose > 0 {
		q.lose--
		q.after(now, resync)
		return
	}
	q.dirty = true
}

func (q *queue) after(now time.Time, d time.Duration) {
	if at := now.Add(d); q.later.IsZero() || at.Before(q.later) {
		q.later = at
	}
}

// next is when the next look is.
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

// pop takes the key out for a look.
func (q *queue) pop(now time.Time) {
	q.dirty = false
	if !q.later.After(now) {
		q.later = time.Time{}
	}
}

// done is what controller-runtime does with the end of a look.
func (q *queue) done(now time.Time, result ctrl.Result, err error) {
	if err != nil {
		q.after(now, q.failed.When(request))
		return
	}
	q.failed.Forget(request)
	if result.RequeueAfter > 0 {
		q.after(now, result.RequeueAfter)
	}
	if q.extra > 0 {
		q.extra--
		q.dirty = true
	}
}

// wakes tells whether a change is one that the operator watches.
func (w *World) wakes(k kind, before, after client.Object) bool {
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

// ownedByName is what maps a child to its owner: kind and name, not the UID.
func ownedByName(o client.Object) bool {
	owner := metav1.GetControllerOf(o)
	return owner != nil && owner.Kind == "FlagCache" && owner.Name == name
}

// refersTo says that the FlagCache names the object in its spec.
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
