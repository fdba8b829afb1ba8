// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import "time"

// Reasons of a rollback, besides those of Kubernetes for pods that do not run.
const (
	// ReasonBreach: a limit was refuted.
	ReasonBreach = "Breach"
	// ReasonAborted: a person rejected the candidate.
	ReasonAborted = "Aborted"
	// ReasonInconclusive: a step's deadline passed with too little evidence.
	ReasonInconclusive = "Inconclusive"
	// ReasonLoadTestFailed: the load test failed, or did not finish.
	ReasonLoadTestFailed = "LoadTestFailed"
	// ReasonUnavailable: pods that were available stopped being so.
	ReasonUnavailable = "Unavailable"
)

// RollbackReasons are the reasons of rollbacks that are decided here.
func RollbackReasons() []string {
	return []string{ReasonBreach, ReasonAborted, ReasonInconclusive, ReasonLoadTestFailed, ReasonUnavailable}
}

// rollbackChecks end a canary; the first that applies is the reason. A command comes
// first, then what is certain without evidence, then the verdict.
var rollbackChecks = []func(trial) (Rollback, bool){
	aborted,
	podsFailed,
	unavailableForLong,
	loadTestFailed,
	limitBreached,
}

// rollback evaluates the checks in order. A candidate that has ready pods while the
// stable revision has none is not rolled back to nothing, unless a person wants it.
func (t trial) rollback() (Rollback, bool) {
	if t.Stable.Down && t.Pods.Ready > 0 {
		return aborted(t)
	}
	for _, check := range rollbackChecks {
		if r, ok := check(t); ok {
			return r, true
		}
	}
	return Rollback{}, false
}

// rollBack ends the canary. The result of a load test is kept to explain it.
func (t trial) rollBack(r Rollback) Decision {
	if t.Progress.LoadTest == nil {
		t.Progress.LoadTest = t.LoadTest
	}
	return Decision{State: t.State, Rollback: &r, Message: r.Message}
}

func aborted(t trial) (Rollback, bool) {
	return Rollback{Reason: ReasonAborted, Message: "aborted on request"}, t.Commands.Abort
}

// podsFailed: not while there are as many pods as the step needs. A candidate that serves
// in place of the stable revision is to have more, for which there may be no space.
func podsFailed(t trial) (Rollback, bool) {
	needed := t.replicas(t.Progress.Step)
	if t.Progress.Step > t.last() {
		needed = t.FullSize
	}
	if t.Pods.Failure == nil || t.Pods.Desired > needed && t.Pods.available(needed) {
		return Rollback{}, false
	}
	return Rollback{Reason: t.Pods.Failure.Reason, Message: t.Pods.Failure.Message}, true
}

// maxUnavailable is how long a revision that was available may be unavailable: then a
// candidate is rejected, and a stable revision given up. Drained nodes return their pods
// sooner.
const maxUnavailable = 5 * time.Minute

func unavailableForLong(t trial) (Rollback, bool) {
	return Rollback{Reason: ReasonUnavailable, Message: "its pods stopped being ready"}, t.Progress.UnavailableFor > maxUnavailable
}

// loadTestFailed: a person who promotes the candidate overrules the load test, too.
func loadTestFailed(t trial) (Rollback, bool) {
	if t.Progress.LoadTest != nil || t.LoadTest == nil || t.LoadTest.Passed || t.Commands.Promote {
		return Rollback{}, false
	}
	return Rollback{Reason: ReasonLoadTestFailed, Message: t.LoadTest.describeFailure()}, true
}

// limitBreached rolls back for a limit that is refuted while the stable revision keeps
// it. A person who promotes the candidate overrules the verdict.
func limitBreached(t trial) (Rollback, bool) {
	r, ok := breached(t.results)
	if !ok || t.blame != candidateToBlame || t.Commands.Promote || t.stableNoBetter(r) {
		return Rollback{}, false
	}
	return Rollback{Reason: ReasonBreach, Message: describeBreach(r, t.Policy)}, true
}
