// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
)

// reported is a FlagCache whose status has rollbacks for such reasons; each trial
// began a minute after the one before.
func reported(uid types.UID, reasons ...string) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "demo", UID: uid}}
	fc.Status.ObservedGeneration = 1
	for i, reason := range reasons {
		fc.Status.History = append(fc.Status.History, v1alpha1.HistoryEntry{
			Revision: "b", Outcome: string(plan.RolledBack), Reason: reason,
			StartedAt: &metav1.Time{Time: time.Date(2026, 6, 1, 12, i, 0, 0, time.UTC)},
		})
	}
	return fc
}

// write is what the reconciler does about a status.
func write(r *Rollbacks, from, to *v1alpha1.FlagCache, err error) {
	r.begin(from, to.Status)
	if err != nil {
		to = from
	}
	r.end(to, err)
}

func TestEachRollbackCountsOnce(t *testing.T) {
	none, one, two := reported("1"), reported("1", plan.ReasonBreach), reported("1", plan.ReasonBreach, plan.ReasonBreach)
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "flagcaches"}, "demo", errors.New("the object has been modified"))
	lost := errors.New("connection reset by peer")
	for name, c := range map[string]struct {
		do   func(*Rollbacks)
		want float64
	}{
		"nothing happened":                 {func(r *Rollbacks) { write(r, none, none, nil) }, 0},
		"a rollback that is reported":      {func(r *Rollbacks) { write(r, none, one, nil) }, 1},
		"and is read again":                {func(r *Rollbacks) { write(r, none, one, nil); r.saw(one); r.saw(one) }, 1},
		"and is written again":             {func(r *Rollbacks) { write(r, none, one, nil); write(r, none, one, nil) }, 1},
		"and is gone, and is there again":  {func(r *Rollbacks) { write(r, none, one, nil); write(r, one, none, nil); write(r, none, one, nil) }, 1},
		"another of the same revision":     {func(r *Rollbacks) { write(r, none, one, nil); write(r, one, two, nil) }, 2},
		"one that was there at the start":  {func(r *Rollbacks) { r.saw(one); write(r, one, one, nil) }, 0},
		"one after that":                   {func(r *Rollbacks) { r.saw(one); write(r, one, two, nil) }, 1},
		"one that somebody else wrote":     {func(r *Rollbacks) { write(r, none, one, conflict); r.saw(one) }, 0},
		"one that is written at last":      {func(r *Rollbacks) { write(r, none, one, conflict); write(r, none, one, nil) }, 1},
		"a lost answer to a write":         {func(r *Rollbacks) { write(r, none, one, lost); r.saw(one) }, 1},
		"a lost write":                     {func(r *Rollbacks) { write(r, none, one, lost); r.saw(none); write(r, none, one, nil) }, 1},
		"a lost status, by another leader": {func(r *Rollbacks) { write(r, &v1alpha1.FlagCache{ObjectMeta: one.ObjectMeta}, one, nil) }, 0},
		"a FlagCache that is gone": {func(r *Rollbacks) {
			write(r, none, one, nil)
			r.forget(types.NamespacedName{Namespace: "shop", Name: "demo"})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Rollbacks{}
			c.do(r)
			if got := r.byReason(none)[plan.ReasonBreach]; got != c.want {
				t.Errorf("%v are counted, want %v", got, c.want)
			}
		})
	}
}

func TestRollbacksOfAPredecessorAreNotItsSuccessors(t *testing.T) {
	r := &Rollbacks{}
	write(r, reported("1"), reported("1", plan.ReasonBreach), nil)
	if got := r.byReason(reported("2"))[plan.ReasonBreach]; got != 0 {
		t.Errorf("the successor has %v", got)
	}
	write(r, reported("2"), reported("2", plan.ReasonAborted), nil)
	if got := r.byReason(reported("2")); got[plan.ReasonAborted] != 1 || got[plan.ReasonBreach] != 0 {
		t.Errorf("the successor has %v", got)
	}
}

// Whatever a record says, the series stay few.
func TestReasonsOfRollbacksAreBounded(t *testing.T) {
	r := &Rollbacks{}
	write(r, reported("1"), reported("1", "CrashLoopBackOff", "whatever", "somebody wrote"), nil)
	got := r.byReason(reported("1"))
	if len(got) != len(rollbackReasons) || got["CrashLoopBackOff"] != 1 || got[otherReason] != 2 {
		t.Errorf("got %v", got)
	}
}
