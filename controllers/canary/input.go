// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import "time"

// Input is what a canary is decided on.
type Input struct {
	// Now is the time of the observations.
	Now time.Time
	// Candidate is the revision that is evaluated.
	Candidate string
	// Recorded is the state on record; the zero value where the canary begins.
	Recorded State
	Spec     Spec
	// Commands of people that are about this candidate.
	Commands Commands
	Evidence Evidence
	// Pods of the candidate.
	Pods Pods
	// Stable is what was observed of the stable revision, or of one that was promoted before
	// and serves in its place.
	Stable Stable
	// Serves: the clients' Service was observed to select the candidate, and nothing else.
	Serves bool
	// FullSize is the number of replicas that carries all traffic.
	FullSize int32
	// SharesCache: both revisions use the same connection to the cache. Then Probe is what
	// is known of that cache.
	SharesCache bool
	Probe       Probe
	// ObservedWeight is the weight that the candidate was observed to have, in percent.
	ObservedWeight int32
	// Exposed: the clients' Service was observed to select the pods of all revisions.
	Exposed bool
	// OtherRevisions besides the stable one and the candidate were observed to have pods.
	OtherRevisions bool
	// Gateway that shares the traffic, nil where none does.
	Gateway *Gateway
	// LoadTest is how the load test was observed to end, nil before. LoadTestWaits is what
	// keeps it from running, "" for nothing.
	LoadTest      *LoadTestResult
	LoadTestWaits string
}

// Spec is how a user wants a canary to proceed.
type Spec struct {
	// Steps in order, at least one.
	Steps []Step
	// Replicas: the ratio of pods is the candidate's share of the traffic.
	Replicas bool
	// LoadTest: the candidate has to pass one before the first step.
	LoadTest bool
	// Interval between samples.
	Interval time.Duration
	// Deadline of a step, after which OnInconclusive decides.
	Deadline       time.Duration
	OnInconclusive InconclusivePolicy
	// Policy for a canary that begins. One that is under way keeps the alpha and the
	// checks that it began with.
	Policy Policy
}

// Step is a share of the traffic for a time.
type Step struct {
	// Weight of the candidate in percent.
	Weight   int32
	Duration time.Duration
}

// InconclusivePolicy is what follows from too little evidence at a step's deadline.
type InconclusivePolicy string

// Policies for too little evidence.
const (
	PauseInconclusive    InconclusivePolicy = "Pause"
	PromoteInconclusive  InconclusivePolicy = "Promote"
	RollbackInconclusive InconclusivePolicy = "Rollback"
)

// Commands are what people want of a candidate.
type Commands struct {
	Abort, Promote, Pause, Resume bool
}

// Except returns the commands that are not among others.
func (c Commands) Except(others Commands) Commands {
	return Commands{
		Abort: c.Abort && !others.Abort, Promote: c.Promote && !others.Promote,
		Pause: c.Pause && !others.Pause, Resume: c.Resume && !others.Resume,
	}
}

// Among returns the commands that are among others, too.
func (c Commands) Among(others Commands) Commands { return c.Except(c.Except(others)) }

// Once returns the commands that are followed once. A pause lasts as long as it is given.
func (c Commands) Once() Commands {
	c.Pause = false
	return c
}

// paused by a person, who may also have ended the pause.
func (c Commands) paused() bool { return c.Pause && !c.Resume }

// Pods are those of the candidate.
type Pods struct {
	// Desired number of replicas, and how many of them are ready.
	Desired, Ready int32
	// Outdated: what was observed is about an earlier generation of their Deployment.
	Outdated bool
	// Updated and Available are how many replicas of the present template there are, and how
	// many are available; zero while that is not known.
	Updated, Available int32
	// Failure that waiting does not resolve, nil where there is none.
	Failure *Failure
	// Waits is what keeps pods from running at the moment, "" for nothing.
	Waits string
}

// Failure is why pods do not run.
type Failure struct {
	// Reason is one of Kubernetes, such as CrashLoopBackOff.
	Reason  string
	Message string
}

// Stable is what was observed of the stable revision.
type Stable struct {
	// Down: none of its pods is ready.
	Down bool
	// NeverServed: it is not on record that any ever was.
	NeverServed bool
	// Replaced: the clients' Service was observed to select something else in its place.
	Replaced bool
}

// available reports whether at least so many replicas are available.
func (p Pods) available(replicas int32) bool {
	return p.Updated >= replicas && p.Available >= replicas
}

// Probe is what the operator's own probe knows of the cache.
type Probe struct {
	// Unhealthy after several failures.
	Unhealthy bool
	// At is when the last probe ended, zero before the first, and Failing whether that one
	// failed.
	At      time.Time
	Failing bool
}

// Gateway is what was observed of a route that shares the traffic.
type Gateway struct {
	// Failure is what a person has to fix, Waiting what resolves by itself; "" for neither.
	Failure, Waiting string
	// MinWeight and MaxWeight are the smallest and the largest weight of the candidate, in
	// percent, in the rules that it belongs into.
	MinWeight, MaxWeight int32
}

// notReady is why a step with a weight cannot start or continue, "" if it can.
func (g *Gateway) notReady(weight int32) string {
	switch {
	case g == nil:
		return ""
	case g.Failure != "":
		return g.Failure
	case g.Waiting != "":
		return g.Waiting
	case g.MinWeight != weight || g.MaxWeight != weight:
		return "Waiting for the route to have the candidate's weight"
	default:
		return ""
	}
}
