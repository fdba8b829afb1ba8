// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Failure is a failed call, as the reason and message of a condition.
type Failure struct {
	// Reason is one of the reasons of Reconciling and Stalled.
	Reason string
	// Message is what was attempted and why it failed, without generated names, times
	// and counters.
	Message string
}

// Conclude returns the status after some calls of a plan failed: Ready reports the
// first failure.
func Conclude(s observed.Snapshot, p Plan, failures []Failure) v1alpha1.FlagCacheStatus {
	if len(failures) == 0 {
		return p.Status
	}
	first := failures[0]
	stalled := slices.Contains(terminalReasons, first.Reason)
	st := *p.Status.DeepCopy()
	setConditions(s.FlagCache, s.Now, &st, verdict{
		ready:       conditions.False(v1alpha1.ConditionReady, first.Reason, "%s", first.Message),
		stalled:     stalled,
		progressing: !stalled,
	}, nil)
	return st
}

// Unobserved returns the status while the cluster cannot be read: Ready is Unknown, and
// the rest is what was observed last.
func Unobserved(fc *v1alpha1.FlagCache, now time.Time, why Failure) v1alpha1.FlagCacheStatus {
	st := *fc.Status.DeepCopy()
	setConditions(fc, now, &st, verdict{
		progressing: true,
		ready:       conditions.Unknown(v1alpha1.ConditionReady, why.Reason, "%s", why.Message),
	}, nil)
	return st
}

// Unreported returns the status when the API server rejects the planned one: Ready is
// False, and the rest is what was reported last.
func Unreported(fc *v1alpha1.FlagCache, now time.Time, why Failure) v1alpha1.FlagCacheStatus {
	st := *fc.Status.DeepCopy()
	st.ObservedGeneration = fc.Generation
	setConditions(fc, now, &st, verdict{
		stalled: true,
		ready:   conditions.False(v1alpha1.ConditionReady, why.Reason, "%s", why.Message),
	}, nil)
	return st
}
