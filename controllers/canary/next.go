// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"fmt"
	"time"
)

// Decision is what follows from an Input.
type Decision struct {
	// State to record. Until it is recorded the same decision is made again.
	State State
	// Rollback ends the canary; nil where it continues.
	Rollback *Rollback
	// Phase that the canary is in, "" after a rollback.
	Phase Phase
	// Message is what the canary waits for, "" if only for time to pass.
	Message string
	// Weight of the candidate in percent, and its number of replicas.
	Weight, Replicas int32
	// Passed: that all steps passed is on record, or that there is no stable revision to
	// return to. The candidate may serve as soon as it is available at full size, or, while
	// the stable revision has no ready pod, as soon as one of its own is ready.
	Passed bool
	// StandsIn: the candidate may serve in place of the stable revision, which has no ready
	// pods or is getting them back.
	StandsIn bool
}

// Rollback is why a canary ended.
type Rollback struct {
	Reason, Message string
}

// Phase is what a canary is doing.
type Phase string

// Phases.
const (
	// Starting: the candidate's pods start, without traffic.
	Starting Phase = "Starting"
	// LoadTesting: a load test runs, without traffic of clients.
	LoadTesting Phase = "LoadTesting"
	// Stepping: the candidate has the weight of a step.
	Stepping Phase = "Stepping"
	// Held: something that both revisions depend on keeps the step from being judged.
	Held Phase = "Held"
	// Paused by a person, or for too little evidence.
	Paused Phase = "Paused"
	// Promoting: all steps passed, and the candidate grows to full size.
	Promoting Phase = "Promoting"
)

// Next decides how a canary continues. It records the sample and the time, then decides:
// it rolls back, or lets the candidate serve because the stable revision does not, or
// promotes on command, or stays where it is, or advances by one step.
func Next(in Input) Decision { return decide(in).atRest(in) }

func decide(in Input) Decision {
	t := observe(in)
	if rollback, ok := t.rollback(); ok {
		return t.rollBack(rollback)
	}
	if in.Stable.Down {
		return takeOver(t)
	}
	t = t.discardConfounded()
	if in.Commands.Promote {
		t.Progress.Step, t.Progress.Forced = t.last()+1, true
		return t.decision(hold{})
	}
	if t.Progress.Step > t.last() {
		t.Progress.Step = t.last() + 1 // the spec may have fewer steps than it had
		return t.decision(hold{})
	}
	t = t.trackAvailability()
	if h, ok := t.hold(); ok {
		t.Progress.SharedAt = time.Time{}
		return t.decision(h)
	}
	return t.advance()
}

// trial is a canary while it is decided on: its state with the sample and the time
// recorded, and what follows from them.
type trial struct {
	Input
	State

	// results by the present evidence.
	results []CheckResult
	// gap is the time since the last decision, observed since the last sample.
	gap, observed time.Duration
	// shared is what fails that both revisions depend on, "" if nothing does.
	shared string
	// blame is where a breach of a check of the cache comes from.
	blame blame
	// recorded is the step on record.
	recorded int
}

// observe records the sample and the time.
func observe(in Input) trial {
	t := trial{Input: in, State: in.Recorded, recorded: in.Recorded.Progress.Step}
	t.Policy = in.Spec.Policy.begunWith(in.Recorded.Policy)
	t.Ledger = t.Ledger.groupedBy(t.Policy)
	t.Progress, t.gap = t.Progress.decideAt(in.Now, t.Ledger.isNew(in.Evidence), in.Spec.Interval)
	if in.SharesCache && in.Probe.Unhealthy {
		t.shared = "The cache that both revisions use is unhealthy"
	}
	t.trackStable()
	confounded := t.trackHealth(t.shared != "" || podsUnavailableInStep(t) || in.Stable.Down || in.Stable.Replaced && !servesAtFullSize(in))
	restarts := t.Ledger.switchesSource(in.Evidence) && t.Progress.Step > 0
	t.Ledger, t.observed = t.Ledger.Record(Sample{
		Evidence: in.Evidence, Candidate: in.Candidate, Confounded: confounded,
		Interval: in.Spec.Interval, SharedAt: t.Progress.SharedAt, SharedFor: min(t.Progress.Elapsed, in.Now.Sub(t.Progress.SharedAt)), Policy: t.Policy,
	})
	if in.Recorded.Progress.unobserved(in.Now, in.Spec.Interval) {
		t.observed = 0
	}
	if restarts {
		t.State = t.beginStep(t.Progress.Step, in.Now)
		t.gap, t.observed = 0, 0
	}
	t.results = t.Judge()
	t.assignBlame()
	return t
}

// trackHealth records for how long nothing has been failing, and reports whether
// something was failing when the events of the sample happened.
func (t *trial) trackHealth(failing bool) bool {
	t.Progress.HealthyFor = prolonged(t.Progress.HealthyFor, t.gap)
	if failing {
		t.Progress.HealthyFor = 0
	}
	return failing || t.Evidence.Lag > 0 && t.Progress.HealthyFor <= t.Evidence.Lag
}

// trackStable records for how long the candidate has been serving in place of the stable
// revision, which has no ready pod or is getting them back, as far as that decides anything.
func (t *trial) trackStable() {
	if !t.Stable.Down && (!t.Serves || t.Progress.StableDownFor == 0) {
		t.Progress.StableDownFor = 0
		return
	}
	t.Progress.StableDownFor = min(prolonged(t.Progress.StableDownFor, t.gap), maxUnavailable+time.Second)
}

// standsIn reports whether the candidate may serve in place of the stable revision: as long
// as that has no ready pod, and then until it has enough of them, for a limited time in all.
func standsIn(t trial) bool {
	return t.Stable.Down || t.Serves && t.Progress.StableDownFor > 0 && t.Progress.StableDownFor <= maxUnavailable
}

// servesAtFullSize reports whether the candidate carries all traffic with as many pods as
// that needs. It is then judged by it, although the stable revision should have most of it.
func servesAtFullSize(in Input) bool { return in.Serves && in.Pods.available(in.FullSize) }

// takeOver lets the candidate serve at full size while the stable revision has no ready
// pod: there is nothing to protect from it, and nothing to compare it with. It is promoted
// if the stable revision never served, or does not for long; before that the stable
// revision, whose pods may only be on their way to another node, serves again when it can.
func takeOver(t trial) Decision {
	t.Progress.SharedAt = time.Time{}
	d := t.decision(hold{})
	d.Phase, d.Replicas = Held, t.FullSize
	d.Message = "The stable revision has no ready pod, so the candidate serves as soon as it has one"
	lost := t.Stable.NeverServed || t.Progress.StableDownFor > maxUnavailable || t.recorded > t.last()
	d.Passed = t.Pods.Available > 0 && (t.Commands.Promote || lost && !t.Commands.paused())
	return d
}

// podsUnavailableInStep reports whether the candidate lacks pods in a step. Failed requests are then no
// evidence about the release: pods that crash or do not become ready are judged as such.
func podsUnavailableInStep(t trial) bool {
	return t.inStep() && !t.Pods.available(t.replicas(t.Progress.Step))
}

// inStep reports whether a step is under way.
func (t trial) inStep() bool { return t.Progress.Step > 0 && t.Progress.Step <= t.last() }

// last is the number of steps.
func (t trial) last() int { return len(t.Spec.Steps) }

// step is the one under way.
func (t trial) step() Step { return t.Spec.Steps[t.Progress.Step-1] }

// blame is where a breach of a check of the cache comes from.
type blame int

const (
	// candidateToBlame: the check is not about a cache that both revisions use, or the
	// cache has answered a probe since.
	candidateToBlame blame = iota
	// blameUnknown: the cache was not probed since.
	blameUnknown
	// cacheToBlame: the cache did not answer a probe either.
	cacheToBlame
)

// assignBlame finds out whether a check of the cache is over its limit because the cache
// is down. A candidate that cannot reach the cache notices within seconds. The stable
// revision, which reached it before, accesses it only twice a minute, so the probe is the
// comparison.
func (t *trial) assignBlame() {
	r, ok := breached(t.results)
	if !ok || !t.SharesCache || t.Probe.At.IsZero() || r.Check.events() == Requests {
		t.Progress.SuspectedAt = time.Time{}
		return
	}
	if t.Progress.SuspectedAt.IsZero() {
		t.Progress.SuspectedAt = t.Now.UTC()
	}
	switch {
	case t.Probe.At.Before(t.Progress.SuspectedAt):
		t.blame = blameUnknown
	case t.Probe.Failing:
		t.blame = cacheToBlame
	}
}

// stableNoBetter reports whether the stable revision has been over the limit of a check
// lately, too, and the candidate not clearly worse.
func (t trial) stableNoBetter(r CheckResult) bool {
	return stableNoBetter(t.Ledger.RecentStable[r.Check].proportion(), t.Ledger.RecentCandidate[r.Check].proportion(), r.Limit)
}

// discardConfounded takes back a breach that did not roll back, because the cache or the
// stable revision was no better. While that is not known, the canary is held.
func (t trial) discardConfounded() trial {
	r, ok := breached(t.results)
	switch {
	case !ok:
		return t
	case t.blame == blameUnknown:
		t.shared = cmp.Or(t.shared, "Waiting for a probe of the cache, which both revisions use")
		return t
	case t.blame == cacheToBlame:
		t.Progress.SuspectedAt = time.Time{}
		t.shared = cmp.Or(t.shared, "The cache that both revisions use did not answer")
	default:
		t.shared = cmp.Or(t.shared, fmt.Sprintf("The stable revision is over the limit of %s too", r.Check))
	}
	t.Ledger = t.Ledger.discard(r.Check)
	t.results = t.Judge()
	return t
}

// trackAvailability records for how long a candidate in a step has been unavailable, as far
// as that is known.
func (t trial) trackAvailability() trial {
	switch {
	case t.Pods.Outdated:
	case podsUnavailableInStep(t):
		t.Progress.UnavailableFor = prolonged(t.Progress.UnavailableFor, t.gap)
	case t.inStep():
		t.Progress.UnavailableFor = 0
	}
	return t
}

// advance begins the first step, or lets time count for the step under way and passes it
// where the evidence suffices. By blocks it passes with the end of one, so that nothing
// which was observed is left unjudged.
func (t trial) advance() Decision {
	if t.Progress.Step == 0 {
		t.Progress.LoadTest = cmp.Or(t.Progress.LoadTest, t.LoadTest)
		t.State = t.beginStep(1, t.Now)
		return t.decision(hold{})
	}
	t = t.countTime()
	if t.Progress.Inconclusive && t.Commands.Resume && !t.Progress.Resumed {
		t.State = t.beginStep(t.Progress.Step, t.Now)
	}
	t.Progress.Resumed = t.Commands.Resume
	lasted := t.Progress.Observed >= t.step().Duration
	switch {
	case lasted && allPass(t.results) && !t.Ledger.Blocks.isOpen():
		t.State = t.beginStep(t.Progress.Step+1, t.Now)
	case t.Progress.Elapsed >= max(t.Spec.Deadline, t.step().Duration):
		return t.inconclusive()
	case lasted:
		return t.decision(hold{message: "Waiting for more evidence: " + t.lacking(t.results)})
	}
	return t.decision(hold{})
}

// countTime lets time count for the step, beginning with the decision that observes the
// candidate with its share, and without anything that holds it. A rollback for too little
// evidence that is not on record has taken the share away: then the deadline counts on.
func (t trial) countTime() trial {
	p := &t.Progress
	switch {
	case t.ObservedWeight < t.step().Weight:
		p.SharedAt, p.Elapsed = time.Time{}, p.Elapsed+t.gap
	case p.SharedAt.IsZero(), p.SharedAt.After(t.Now): // the clock may have been set back
		p.SharedAt, p.DecidedAt = t.Now.UTC(), t.Now.UTC()
	default:
		p.Elapsed, p.Observed = p.Elapsed+t.gap, p.Observed+t.observed
	}
	return t
}

// inconclusive applies the policy for too little evidence at the deadline.
func (t trial) inconclusive() Decision {
	switch t.Spec.OnInconclusive {
	case PromoteInconclusive:
		t.State = t.beginStep(t.Progress.Step+1, t.Now)
	case RollbackInconclusive:
		return t.rollBack(Rollback{Reason: ReasonInconclusive, Message: fmt.Sprintf(
			"the deadline of step %d passed with too little evidence: %s", t.Progress.Step, t.lacking(t.results))})
	default:
		t.Progress.Inconclusive = true
	}
	return t.decision(hold{})
}
