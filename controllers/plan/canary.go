// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// canaryState is the trial of a candidate, as it is after this look.
//
//	Starting ──▶ LoadTesting ──▶ step 1 … step n ──▶ Promoting ──▶ the Service selects it
//	    └────────────┴──────────────┴──────────────────┴──▶ RolledBack
//
// A step is passed by evidence and never by time alone. A breach ends the trial
// wherever it is. What the candidate shares with the stable revision is not held
// against it.
type canaryState struct {
	// record of the candidate, as it is to be kept.
	record Record
	phase  v1alpha1.CanaryPhase
	// weight that the candidate gets now, in percent.
	weight int32
	// stepStartedAt is when the step began that is on record. One that is not begins
	// anew at each look.
	stepStartedAt time.Time
	// replicas that the candidate has now.
	replicas int32
	// passed: the candidate may serve as soon as it is available at full size.
	passed  bool
	results []CheckResult
	// message says what the canary waits for.
	message string
}

// trialInput is what a canary is decided on, besides its record.
type trialInput struct {
	s    *observed.Index
	spec *v1alpha1.CanarySpec
	// candidate revision, and how its Deployment was seen.
	candidate string
	pods      observed.PodTrouble
	stuck     bool
	// available tells whether the candidate was seen available at a size.
	available func(replicas int32) bool
	// full is the size that carries all traffic.
	full int32
	// sharesCache: both revisions use the same connection.
	sharesCache bool
	// given is the weight that the candidate was seen to have.
	given int32
	// open: the Service was seen to select the pods of all revisions.
	open bool
	// others: revisions besides the stable one and the candidate were seen to have
	// pods.
	others bool
	// gate is what the route says, nil where no gateway shares the traffic.
	gate *gate
	// loadTest is how the load test was seen to end, nil before.
	loadTest *LoadTestResult
}

// decideCanary takes one look at a trial. The record is that of the candidate,
// and its trial is begun here if it has none.
func decideCanary(in trialInput, record Record) canaryState {
	t, recorded, begun := &Trial{}, 0, time.Time{}
	if record.Trial != nil {
		t, recorded, begun = record.Trial.clone(), record.Trial.Step, record.Trial.StepStartedAt
	}
	t.judgeBy(policyOf(in.spec))
	record.Trial = t
	c := canaryState{record: record, phase: v1alpha1.CanaryStarting, stepStartedAt: begun}

	interval := in.spec.Metrics.Interval.Duration
	gap := t.look(in.s.Now, t.isNew(in.s.Evidence), interval)
	shared := in.sharedTrouble()
	another := t.follow(in.s.Evidence)
	struck := t.overshadowed(shared != "" || in.away(t), gap, in.s.Evidence.Lag)
	observed := t.absorb(in.s.Evidence, in.candidate, struck, interval)
	if another && t.Step > 0 {
		t.begin(t.Step, in.s.Now)
		gap, observed = 0, 0
	}
	c.results = t.Judge()

	doubt := in.doubt(t, c.results)
	if reason, message := in.failure(t, c.results, doubt); reason != "" {
		return c.reject(in, reason, message)
	}
	if doubt == awaited {
		shared = cmp.Or(shared, "Waiting for a probe of the cache, which both revisions use")
	} else if struck := strikeShared(t, c.results, doubt); struck != "" {
		shared = cmp.Or(shared, struck)
		c.results = t.Judge()
	}
	if !in.commanded(v1alpha1.AnnotationPromote) {
		c.advance(in, gap, observed, shared)
	} else {
		t.Step, t.ByHand = in.steps()+1, true
	}
	if c.record.Outcome == RolledBack {
		return c
	}
	c.size(in, recorded, shared)
	return c
}

// steps is how many there are. A spec that got shorter in mid-canary leaves the
// last step to be passed.
func (in trialInput) steps() int { return len(in.spec.Steps) }

// commanded tells whether a person's annotation is about this candidate.
func (in trialInput) commanded(annotation string) bool {
	return in.candidate != "" && in.s.FlagCache.Annotations[annotation] == in.candidate
}

// paused by a person, who may also have ended the pause.
func (in trialInput) paused() bool {
	return in.commanded(v1alpha1.AnnotationPause) && !in.commanded(v1alpha1.AnnotationResume)
}

// sharedTrouble is what is wrong with something that both revisions depend on.
func (in trialInput) sharedTrouble() string {
	if in.sharesCache && in.s.Probe.Health == observed.Unhealthy {
		return "The cache that both revisions use is unhealthy"
	}
	return ""
}

// away says that the candidate's pods are not there for now. What clients ask of
// them then fails for that, and says nothing of the release: pods that crash or do
// not become ready are judged as such.
func (in trialInput) away(t *Trial) bool {
	return t.Step > 0 && t.Step <= in.steps() && !in.available(in.stepReplicas(t.Step))
}

// mostUnavailable is how long a candidate that was available may be unavailable.
// Drained nodes give pods back sooner.
const mostUnavailable = 5 * time.Minute

// failure is what ends the trial at once: a person's word, pods that do not run,
// or a limit that is refuted while the stable revision keeps it.
func (in trialInput) failure(t *Trial, results []CheckResult, d doubt) (reason, message string) {
	switch {
	case in.commanded(v1alpha1.AnnotationAbort):
		return ReasonAborted, "the annotation " + v1alpha1.AnnotationAbort + " asked for it"
	case in.pods.Reason != "":
		return in.pods.Reason, in.pods.Message
	case in.stuck:
		return v1alpha1.ReasonProgressDeadlineExceeded, fmt.Sprintf("its pods did not become available in %d seconds", progressDeadline)
	case t.UnavailableFor > mostUnavailable:
		return ReasonUnavailable, "its pods stopped being ready"
	case t.LoadTest == nil && in.loadTest != nil && !in.loadTest.Passed:
		t.LoadTest = in.loadTest
		return ReasonLoadTestFailed, in.loadTest.sentence()
	}
	if r, ok := breached(results); ok && d == none && !stableIsNoBetter(t, r) && !in.commanded(v1alpha1.AnnotationPromote) {
		return ReasonBreach, describeBreach(r, t.Policy)
	}
	return "", ""
}

// clearly is how many times worse than the stable revision a candidate has to be
// while both are over a limit.
const clearly = 2

// stableIsNoBetter tells whether, of late, the stable revision was over the limit
// too, and the candidate not clearly worse. A comparison of recent events can only
// hold a rollback back, so it costs no false one.
func stableIsNoBetter(t *Trial, r CheckResult) bool {
	stable, candidate := t.RecentStable[r.Check].share(), t.RecentCandidate[r.Check].share()
	return noBetter(stable, candidate, r.Limit)
}

// noBetter compares the shares of events that were bad at the stable revision and
// at the candidate.
func noBetter(stable, candidate, limit float64) bool {
	return stable > limit && clearly*stable >= candidate
}

// doubt is whether a check of the cache is over its limit because the cache is away.
type doubt int

const (
	// none: it is not about a cache that both revisions use, or the cache answered
	// since.
	none doubt = iota
	// awaited: the cache was not probed since.
	awaited
	// justified: the cache did not answer the probe either.
	justified
)

// doubt asks the probe about a check of the cache that is over its limit. A
// candidate that cannot reach its cache says so in seconds; the stable revision,
// which reached it before, looks only twice a minute, so it is no comparison yet.
func (in trialInput) doubt(t *Trial, results []CheckResult) doubt {
	r, ok := breached(results)
	probe := in.s.Probe
	if !ok || !in.sharesCache || probe.At.IsZero() || r.Check != canary.CacheHitRate && r.Check != canary.MissLatencyP95 {
		t.DoubtedAt = time.Time{}
		return none
	}
	if t.DoubtedAt.IsZero() {
		t.DoubtedAt = in.s.Now.UTC()
	}
	switch {
	case probe.At.Before(t.DoubtedAt):
		return awaited
	case probe.Failing:
		return justified
	default:
		return none
	}
}

// strikeShared takes back what a check found while the stable revision was no
// better, or the cache away, and says so.
func strikeShared(t *Trial, results []CheckResult, d doubt) string {
	r, ok := breached(results)
	if !ok {
		return ""
	}
	t.strike(r.Check)
	if d == justified {
		t.DoubtedAt = time.Time{}
		return "The cache that both revisions use did not answer"
	}
	return fmt.Sprintf("The stable revision is over the limit of %s too", r.Check)
}

func describeBreach(r CheckResult, p Policy) string {
	if p.Block > 0 {
		return fmt.Sprintf("%s: on average of %d blocks of %s, %s of the events are bad (at least %s by the confidence interval), the limit is %s",
			r.Check, r.Blocks, p.Block, percent(r.Result.Observed), percent(r.Result.Lower), percent(r.Limit))
	}
	return fmt.Sprintf("%s: %s of %d events are bad (at least %s by the confidence interval), the limit is %s",
		r.Check, percent(r.Result.Observed), r.Counts.Total, percent(r.Result.Lower), percent(r.Limit))
}

// reject ends the trial. The rejection is recorded before anything is taken down,
// so that a crash in between cannot start the candidate again; its traffic ends
// with the same look.
func (c canaryState) reject(in trialInput, reason, message string) canaryState {
	c.record.finish(in.s.Now, RolledBack, reason, "%s", message)
	c.phase, c.weight, c.replicas, c.message = "", 0, 0, message
	return c
}

// advance moves the trial on, by one step at the most.
func (c *canaryState) advance(in trialInput, gap, observed time.Duration, shared string) {
	t := c.record.Trial
	if t.Step == 0 {
		c.start(in)
		return
	}
	t.Step = min(t.Step, in.steps()+1)
	if t.Step > in.steps() {
		return
	}
	if !in.available(in.stepReplicas(t.Step)) {
		t.UnavailableFor += gap
		c.message = "Waiting for the candidate's pods"
		return
	}
	t.UnavailableFor = 0
	if shared != "" || in.paused() {
		return
	}
	if c.message = in.gate.held(in.spec.Steps[t.Step-1].Weight); c.message != "" {
		return
	}
	if in.given < in.spec.Steps[t.Step-1].Weight {
		// The share of the step is yet to be written, and may have failed to be. Or a
		// rollback for want of evidence took it away and is not on record: the deadline
		// goes on, so that this is decided again.
		if in.spec.OnInconclusive != v1alpha1.InconclusiveRollback {
			return
		}
		observed = 0
	}
	t.Elapsed += gap
	t.Observed += observed
	c.step(in)
}

// start waits for the pods and for the load test, then begins the first step.
func (c *canaryState) start(in trialInput) {
	t := c.record.Trial
	switch {
	case in.crowded():
		c.message = "Waiting for the pods of the candidate before to get no requests any more"
	case !in.available(in.stepReplicas(1)):
		c.message = "Waiting for the candidate's pods"
	case in.spec.LoadTest != nil && t.LoadTest == nil && in.loadTest == nil:
		c.phase, c.message = v1alpha1.CanaryLoadTesting, "Waiting for the load test"
	case in.paused():
	case in.gate.held(0) != "":
		c.message = in.gate.held(0)
	default:
		if t.LoadTest == nil {
			t.LoadTest = in.loadTest
		}
		t.begin(1, in.s.Now)
	}
}

// step passes the step under way, or decides about one whose deadline is over. By
// blocks it passes with the end of one: nothing that was seen is left unjudged.
func (c *canaryState) step(in trialInput) {
	t := c.record.Trial
	step := in.spec.Steps[t.Step-1]
	resume := in.commanded(v1alpha1.AnnotationResume)
	if t.Inconclusive && resume && !t.Resumed {
		t.begin(t.Step, in.s.Now)
	}
	t.Resumed = resume
	switch {
	case t.Observed >= step.Duration.Duration && allPass(c.results) && !t.Blocks.underWay():
		t.begin(t.Step+1, in.s.Now)
	case t.Elapsed >= in.spec.Deadline.Duration && t.Elapsed >= step.Duration.Duration:
		c.undecided(in)
	case t.Observed >= step.Duration.Duration:
		c.message = "Waiting for more evidence: " + t.lacking(c.results)
	}
}

// undecided does what the spec says about too little evidence.
func (c *canaryState) undecided(in trialInput) {
	t := c.record.Trial
	switch in.spec.OnInconclusive {
	case v1alpha1.InconclusivePromote:
		t.begin(t.Step+1, in.s.Now)
	case v1alpha1.InconclusiveRollback:
		*c = c.reject(in, ReasonInconclusive, "the deadline of step "+fmt.Sprint(t.Step)+" passed with too little evidence: "+t.lacking(c.results))
	default:
		t.Inconclusive = true
	}
}

// size says what the candidate gets now, and names the phase. It gets no more than
// it had, of pods and of traffic, before the step that allows it is on record, so
// that a record which cannot be written holds it back.
func (c *canaryState) size(in trialInput, recorded int, shared string) {
	t := c.record.Trial
	switch {
	case recorded == 0 && in.crowded():
	case t.Step == 0:
		c.replicas = in.stepReplicas(1)
	case t.Step > in.steps():
		c.phase, c.passed, c.replicas = v1alpha1.CanaryPromoting, recorded > in.steps(), in.stepReplicas(recorded)
		if c.passed {
			c.replicas = in.full
		}
		c.weight = min(in.given, in.spec.Steps[in.steps()-1].Weight)
		c.message = "Waiting for the candidate at full size"
	default:
		c.phase, c.replicas, c.weight = v1alpha1.CanaryStepping, in.stepReplicas(min(recorded, t.Step)), in.spec.Steps[t.Step-1].Weight
		if recorded < t.Step || !in.available(c.replicas) {
			c.weight = min(c.weight, in.given)
		}
	}
	if c.message == "" && in.s.Evidence.Missing != "" {
		c.message = "A part of the evidence is missing: " + in.s.Evidence.Missing
	}
	switch {
	case t.Step > in.steps():
	case shared != "":
		c.phase, c.message = v1alpha1.CanaryHeld, shared
	case in.gate != nil && in.gate.trouble != "":
		c.phase, c.message = v1alpha1.CanaryHeld, in.gate.trouble
	case t.Inconclusive:
		c.phase, c.message = v1alpha1.CanaryPaused, fmt.Sprintf("The deadline of step %d passed with too little evidence (%s): annotate %s, %s or %s with the revision",
			t.Step, t.lacking(c.results), v1alpha1.AnnotationResume, v1alpha1.AnnotationPromote, v1alpha1.AnnotationAbort)
	case in.paused():
		c.phase, c.message = v1alpha1.CanaryPaused, "The annotation "+v1alpha1.AnnotationPause+" keeps it where it is"
	}
}

// crowded says that a candidate's pods would get requests, or share them, before
// its first step: those of the candidate before still do.
func (in trialInput) crowded() bool {
	return in.open || in.others && in.spec.Traffic.Type == v1alpha1.TrafficReplicas
}

// stepReplicas is the candidate's size in a step: its share of the full size.
// Before the first step it has the size of that one.
func (in trialInput) stepReplicas(step int) int32 {
	weight := in.spec.Steps[max(min(step, in.steps()), 1)-1].Weight
	return candidateReplicas(in.spec.Traffic.Type, in.full, weight)
}

// candidateReplicas is how many pods take a share of the traffic of so many. By
// Replicas the pods are the share: candidate / (candidate + stable) is as near
// to it as whole pods come, with at least one.
func candidateReplicas(traffic v1alpha1.TrafficType, full, weight int32) int32 {
	if traffic == v1alpha1.TrafficReplicas && weight < 100 {
		return max(1, (2*full*weight+(100-weight))/(2*(100-weight)))
	}
	return max(1, (full*weight+99)/100)
}
