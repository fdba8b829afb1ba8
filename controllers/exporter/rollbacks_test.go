// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// reported returns a FlagCache whose status contains rollbacks for the given
// reasons, started one minute apart.
func reported(uid types.UID, reasons ...string) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "demo", UID: uid}}
	fc.Status.ObservedGeneration = 1
	for i, reason := range reasons {
		fc.Status.History = append(fc.Status.History, v1alpha1.HistoryEntry{
			Revision: "b", Outcome: string(canary.RolledBack), Reason: reason,
			StartedAt: &metav1.Time{Time: time.Date(2026, 6, 1, 12, i, 0, 0, time.UTC)},
		})
	}
	return fc
}

// write does what the reconciler does when it writes a status.
func write(r *Rollbacks, from, to *v1alpha1.FlagCache, err error) {
	r.BeforeWrite(from, to.Status)
	if err != nil {
		to = from
	}
	r.AfterWrite(to, err)
}

func TestRollbackIsCountedOnce(t *testing.T) {
	none, one, two := reported("1"), reported("1", canary.ReasonBreach), reported("1", canary.ReasonBreach, canary.ReasonBreach)
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "flagcaches"}, "demo", errors.New("the object has been modified"))
	lost := errors.New("connection reset by peer")
	for name, c := range map[string]struct {
		do   func(*Rollbacks)
		want float64
	}{
		"no rollback":                                  {func(r *Rollbacks) { write(r, none, none, nil) }, 0},
		"a reported rollback":                          {func(r *Rollbacks) { write(r, none, one, nil) }, 1},
		"a rollback that is read again":                {func(r *Rollbacks) { write(r, none, one, nil); r.Observe(one); r.Observe(one) }, 1},
		"a rollback that is written again":             {func(r *Rollbacks) { write(r, none, one, nil); write(r, none, one, nil) }, 1},
		"a rollback that is removed and written again": {func(r *Rollbacks) { write(r, none, one, nil); write(r, one, none, nil); write(r, none, one, nil) }, 1},
		"a second rollback of the same revision":       {func(r *Rollbacks) { write(r, none, one, nil); write(r, one, two, nil) }, 2},
		"a rollback reported before the start":         {func(r *Rollbacks) { r.Observe(one); write(r, one, one, nil) }, 0},
		"a new rollback after a restart":               {func(r *Rollbacks) { r.Observe(one); write(r, one, two, nil) }, 1},
		"a rollback written by another leader":         {func(r *Rollbacks) { write(r, none, one, conflict); r.Observe(one) }, 0},
		"a rollback written after a conflict":          {func(r *Rollbacks) { write(r, none, one, conflict); write(r, none, one, nil) }, 1},
		"a write whose response is lost":               {func(r *Rollbacks) { write(r, none, one, lost); r.Observe(one) }, 1},
		"a write that is lost and repeated":            {func(r *Rollbacks) { write(r, none, one, lost); r.Observe(none); write(r, none, one, nil) }, 1},
		"a lost status restored by another leader":     {func(r *Rollbacks) { write(r, &v1alpha1.FlagCache{ObjectMeta: one.ObjectMeta}, one, nil) }, 0},
		"a deleted FlagCache": {func(r *Rollbacks) {
			write(r, none, one, nil)
			r.Forget(types.NamespacedName{Namespace: "shop", Name: "demo"})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Rollbacks{}
			c.do(r)
			if got := r.byReason(none)[canary.ReasonBreach]; got != c.want {
				t.Errorf("got %v rollbacks, want %v", got, c.want)
			}
		})
	}
}

func TestRecreatedFlagCacheStartsAtZero(t *testing.T) {
	r := &Rollbacks{}
	write(r, reported("1"), reported("1", canary.ReasonBreach), nil)
	if got := r.byReason(reported("2"))[canary.ReasonBreach]; got != 0 {
		t.Errorf("the new FlagCache has %v", got)
	}
	write(r, reported("2"), reported("2", canary.ReasonAborted), nil)
	if got := r.byReason(reported("2")); got[canary.ReasonAborted] != 1 || got[canary.ReasonBreach] != 0 {
		t.Errorf("the new FlagCache has %v", got)
	}
}

func TestUnknownReasonsAreCountedAsOther(t *testing.T) {
	r := &Rollbacks{}
	write(r, reported("1"), reported("1", "CrashLoopBackOff", "whatever", "somebody wrote"), nil)
	got := r.byReason(reported("1"))
	if len(got) != len(rollbackReasons) || got["CrashLoopBackOff"] != 1 || got[otherReason] != 2 {
		t.Errorf("got %v", got)
	}
}
