// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

// hold is why a canary stays where it is; the zero value is no reason.
type hold struct {
	// phase that it is in meanwhile, "" for the one of its step.
	phase   Phase
	message string
}

// holdChecks keep a canary where it is; the first that applies is why. Time that passes
// meanwhile does not count for the step.
var holdChecks = []func(trial) (hold, bool){
	stableReplaced,
	previousCandidateServing,
	podsUnavailable,
	loadTestRunning,
	sharedDependencyFailing,
	pausedByPerson,
	gatewayNotReady,
	weightNotObserved,
}

// hold evaluates the checks in order.
func (t trial) hold() (hold, bool) {
	for _, check := range holdChecks {
		if h, ok := check(t); ok {
			return h, true
		}
	}
	return hold{}, false
}

// stableReplaced: the candidate serves all traffic, because the stable revision could not,
// or somebody edited or deleted the Service. It does not have the share that was given to it.
func stableReplaced(t trial) (hold, bool) {
	return hold{phase: Held, message: "Waiting for the stable revision to serve again"}, t.Stable.Replaced
}

// previousCandidateServing: before the first step, pods of an earlier candidate still get
// requests that the candidate would share.
func previousCandidateServing(t trial) (hold, bool) {
	return hold{message: "Waiting for the previous candidate to drain"}, t.Progress.Step == 0 && t.sharesEndpoints()
}

func podsUnavailable(t trial) (hold, bool) {
	return hold{message: because("Waiting for the candidate's pods", t.Pods.Waits)}, !t.Pods.available(t.replicas(t.Progress.Step))
}

// loadTestRunning: before the first step.
func loadTestRunning(t trial) (hold, bool) {
	return hold{phase: LoadTesting, message: because("Waiting for the load test", t.LoadTestWaits)},
		t.Progress.Step == 0 && t.Spec.LoadTest && t.Progress.LoadTest == nil && t.LoadTest == nil
}

// because adds a cause to a message, if there is one.
func because(message, cause string) string {
	if cause == "" {
		return message
	}
	return message + ": " + cause
}

func sharedDependencyFailing(t trial) (hold, bool) {
	return hold{}, t.inStep() && t.shared != ""
}

func pausedByPerson(t trial) (hold, bool) { return hold{}, t.Commands.paused() }

// gatewayNotReady: the route has to have the weight of the step, and none before.
func gatewayNotReady(t trial) (hold, bool) {
	message := t.Gateway.notReady(t.stepWeight())
	return hold{message: message}, message != ""
}

// weightNotObserved: the share of the step is still to be written, or failed to be. A
// rollback for too little evidence may have taken it away without being on record: then
// the deadline counts on, so that it is decided again.
func weightNotObserved(t trial) (hold, bool) {
	return hold{}, t.ObservedWeight < t.stepWeight() && t.Spec.OnInconclusive != RollbackInconclusive
}

// stepWeight is the weight of the step under way, 0 before the first.
func (t trial) stepWeight() int32 {
	if t.Progress.Step == 0 {
		return 0
	}
	return t.step().Weight
}

// sharesEndpoints reports whether pods of a candidate would get requests, or share them, before
// its first step, because those of an earlier candidate still do.
func (t trial) sharesEndpoints() bool { return t.Exposed || t.OtherRevisions && t.Spec.Replicas }

// decision gives the candidate its size and its weight. It gets no more than it had, of
// either, before the step that allows it is on record, so that a record which cannot be
// written holds it back. Where pods are the share, it gets none while it has more of them.
func (t trial) decision(h hold) Decision {
	d := Decision{State: t.State, Phase: Starting, Message: h.message, StandsIn: standsIn(t)}
	step := t.Progress.Step
	switch {
	case t.recorded == 0 && t.sharesEndpoints():
	case step == 0:
		d.Replicas = t.replicas(1)
	case step > t.last():
		d.Phase, d.Message = Promoting, "Waiting for the candidate at full size"
		d.Weight = min(t.ObservedWeight, t.Spec.Steps[t.last()-1].Weight)
		d.Passed, d.Replicas = t.recorded > t.last(), t.replicas(t.recorded)
		if d.Passed {
			d.Replicas = t.FullSize
		}
	default:
		d.Phase, d.Weight, d.Replicas = Stepping, t.step().Weight, t.replicas(min(t.recorded, step))
		if t.recorded < step || !t.Pods.available(d.Replicas) || t.Spec.Replicas && (t.Stable.Replaced || t.Pods.Available > d.Replicas) {
			d.Weight = min(d.Weight, t.ObservedWeight)
		}
	}
	if h.phase != "" {
		d.Phase = h.phase
	}
	if d.Message == "" && t.Evidence.Missing != "" {
		d.Message = "A part of the evidence is missing: " + t.Evidence.Missing
	}
	if step <= t.last() {
		d.Phase, d.Message = t.report(d.Phase, d.Message)
	}
	return d
}

// report puts what a person should know first before what the canary waits for.
func (t trial) report(phase Phase, message string) (Phase, string) {
	switch {
	case t.shared != "":
		return Held, t.shared
	case t.Gateway != nil && t.Gateway.Failure != "":
		return Held, t.Gateway.Failure
	case t.Progress.Inconclusive:
		return Paused, describeInconclusive(t.Input, t.State, t.results)
	case t.Commands.paused():
		return Paused, "Paused on request"
	default:
		return phase, message
	}
}

// replicas is the candidate's size in a step: its share of the full size. Before the
// first step it has the size of that one.
func (t trial) replicas(step int) int32 {
	weight := t.Spec.Steps[max(min(step, t.last()), 1)-1].Weight
	return replicasFor(weight, t.FullSize, t.Spec.Replicas)
}

// replicasFor is how many pods take a share of the traffic that full pods carry. Where
// pods are the share, candidate / (candidate + stable) is as near to it as whole pods
// come, with at least one.
func replicasFor(weight, full int32, byRatio bool) int32 {
	if byRatio && weight < 100 {
		return max(1, (2*full*weight+(100-weight))/(2*(100-weight)))
	}
	return max(1, (full*weight+99)/100)
}
