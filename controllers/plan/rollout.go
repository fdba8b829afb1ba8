// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// rollout is how traffic moves from one revision to the next.
//
//	no Service              ──▶ the target serves at once
//	stable, target the same ──▶ settled; the one before stays for a while
//	stable, target another  ──▶ candidate beside it, tried by a canary; when that
//	                            passed and it was seen available at full size, the
//	                            Service selects it, and it is the stable one
//	stable, target rejected ──▶ the stable one serves until the spec changes
//
// The Service is the record of which revision is stable, the target's
// ControllerRevision that of how far its canary got.
type rollout struct {
	// target is the revision that the spec asks for, "" while there is none.
	target string
	// stable is the revision that the Service was seen to select, "" before the first.
	stable string
	// serves is the revision that the Service is to select now.
	serves string
	// previous is the revision that served before the stable one, for as long as
	// it stays.
	previous string
	// previousFor is how much longer that is.
	previousFor time.Duration
	// rejected says that the target was rejected, and that this is on record.
	rejected bool
	// canary of the target, nil where there is none.
	canary *canaryState
	// lingers says that the candidate was rejected by this look. Its pods stay until
	// that is on record: taken down before, they would be missing at the next look,
	// which then has no reason to reject them.
	lingers bool
	// begun says that the canary's trial is on record, tested that the result of its
	// load test is.
	begun, tested bool
	// full is the size that carries all traffic.
	full int32
	// history has the records as they are to be kept.
	history history
	// observed are the Deployments of revisions, by revision.
	observed map[string]*appsv1.Deployment
}

// decideRollout chooses the revision that serves, and says how far its successor is.
func decideRollout(s *observed.Index, target *revisionTemplate) rollout {
	r := rollout{observed: s.Revisions, history: readHistory(s), stable: s.Stable}
	if target != nil {
		r.target = target.revision
	}
	if last, ok := r.history.lastPromoted(""); ok && r.stable == "" && r.observed[last.Revision] != nil {
		r.stable = last.Revision // somebody deleted the Service
	}
	r.full = wantedReplicas(s.FlagCache, r)
	r.serves = r.stable
	switch r.target {
	case "":
	case r.stable:
		r.settle(s)
	default:
		r.change(s, target)
	}
	r.closeOthers(s.Now)
	return r
}

// settle records that the target was seen to serve, and keeps its predecessor
// for as long as the spec says.
func (r *rollout) settle(s *observed.Index) {
	record := r.history.of(r.stable, s.Now)
	if record.Outcome != Promoted {
		record.promote(s.Now)
		r.history.records[r.stable] = record
	}
	if s.FlagCache.Spec.Canary == nil {
		return
	}
	last, ok := r.history.lastPromoted(r.stable)
	delay := s.FlagCache.Spec.Canary.ScaleDownDelay.Duration
	left := record.FinishedAt.Add(delay).Sub(s.Now)
	// A promotion that is far ahead was recorded by a clock that has gone back since.
	if ok && left > 0 && left <= 2*delay && r.observed[last.Revision] != nil {
		r.previous, r.previousFor = last.Revision, left
	}
}

// change moves on towards the target.
func (r *rollout) change(s *observed.Index, target *revisionTemplate) {
	if r.stable == "" {
		r.serves = r.target // the first needs no trial, and no record before it serves
		return
	}
	record := r.reopen(s)
	record.Intent = target.intent
	seen, recorded := r.history.records[r.target]
	r.begun = recorded && seen.Outcome == "" && seen.StartedAt.Equal(record.StartedAt)
	if r.rejected = record.rejected(); r.rejected {
		r.history.records[r.target] = record
		return
	}
	if record.Passed || len(s.FlagCache.Spec.Canary.GetSteps()) == 0 {
		if available(r.observed[r.target], r.full) {
			r.serves = r.target
		}
		r.history.records[r.target] = record
		return
	}
	r.tested = record.Trial != nil && record.Trial.LoadTest != nil
	tried := decideCanary(r.trialInput(s, target, record), record)
	if tried.passed && available(r.observed[r.target], r.full) {
		r.serves = r.target
	}
	r.canary = &tried
	r.lingers = tried.record.Outcome == RolledBack
	r.history.records[r.target] = tried.record
}

// reopen is the target's record, a new one if the last attempt is over.
func (r *rollout) reopen(s *observed.Index) Record {
	record := r.history.of(r.target, s.Now)
	retry := s.FlagCache.Annotations[v1alpha1.AnnotationRetry] == r.target
	if record.rejected() && (!retry || record.Retried) {
		record.Retried = retry
		return record
	}
	if record.Outcome != "" {
		return record.again(s.Now, retry)
	}
	return record
}

func (r *rollout) trialInput(s *observed.Index, target *revisionTemplate, record Record) trialInput {
	candidate := r.observed[r.target]
	stable := r.observed[r.stable]
	return trialInput{
		s: s, spec: s.FlagCache.Spec.Canary,
		candidate:   r.target,
		pods:        s.Pods[r.target],
		stuck:       stuck(candidate),
		available:   func(replicas int32) bool { return available(candidate, replicas) },
		full:        r.full,
		sharesCache: stable != nil && connection.HashOf(stable) == target.template.Annotations[v1alpha1.AnnotationConnection],
		given:       givenWeight(s, r.target),
		open:        s.SharesService(),
		others:      r.others(),
		gate:        readGate(s, r.target),
		loadTest:    loadTestResult(s, record),
	}
}

// others says that revisions were seen besides the stable one and the target.
func (r *rollout) others() bool {
	for revision := range r.observed {
		if revision != r.stable && revision != r.target {
			return true
		}
	}
	return false
}

// closeOthers gives revisions that the spec does not ask for any more their
// outcome, once. A rejection ends with that: who comes back to the revision means
// to try it again.
func (r *rollout) closeOthers(now time.Time) {
	if r.target == "" {
		return
	}
	for revision, record := range r.history.records {
		switch {
		case revision == r.target, revision == r.stable:
			continue
		case record.Outcome == "":
			record.finish(now, Superseded, "Superseded", "the spec asked for revision %s", r.target)
		case record.rejected():
			record.Lifted = true
		}
		r.history.records[revision] = record
	}
}

// candidate is the revision that is on its way: the target, until the Service
// was seen to select it. It is "" when there is none.
func (r rollout) candidate() string {
	if r.target == r.stable || r.rejected {
		return ""
	}
	return r.target
}

// settled says that the revision of the spec was seen to serve, or that none
// ever did.
func (r rollout) settled() bool {
	if r.target == "" {
		return r.stable == "" && len(r.observed) == 0
	}
	return r.stable == r.target
}

// kept are the revisions that should have a Deployment. The one that served
// until now is kept until the Service was seen to select its successor, and as
// long after that as the spec says.
func (r rollout) kept() []string {
	var kept []string
	for _, revision := range []string{r.stable, r.candidate(), r.previous} {
		if revision != "" {
			kept = append(kept, revision)
		}
	}
	return kept
}

func (r rollout) keeps(revision string) bool {
	return slices.Contains(r.kept(), revision)
}

// inUse are the revisions whose records must not be lost.
func (r rollout) inUse() []string {
	var revisions []string
	for _, revision := range []string{r.stable, r.target, r.previous} {
		if revision != "" && !slices.Contains(revisions, revision) {
			revisions = append(revisions, revision)
		}
	}
	return revisions
}

// atRest says that nothing but the stable revision is needed.
func (r rollout) atRest() bool { return r.settled() && r.previous == "" }

// uses says that the pods of some revision use a connection.
func (r rollout) uses(hash string) bool {
	for _, d := range r.observed {
		if connection.HashOf(d) == hash {
			return true
		}
	}
	return false
}

// replicas is the size of a revision's Deployment; ok is false for one whose
// size is not ours to say.
func (r rollout) replicas(revision string) (replicas int32, ok bool) {
	switch {
	case revision == r.previous, revision == r.candidate() && r.lingers:
		return 0, false
	case revision == r.candidate() && r.canary != nil:
		return r.canary.replicas, true
	default:
		return r.full, true
	}
}

// stuck says that a revision has given up becoming available.
func stuck(d *appsv1.Deployment) bool {
	if d == nil || d.Status.ObservedGeneration < d.Generation {
		return false
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			return true
		}
	}
	return false
}

// available says that a Deployment was seen with at least so many replicas, all
// that it asks for, and all of its current template.
func available(d *appsv1.Deployment, replicas int32) bool {
	return d != nil &&
		d.Status.ObservedGeneration >= d.Generation &&
		d.Status.UpdatedReplicas >= replicas &&
		d.Status.AvailableReplicas >= max(replicas, ptr.Deref(d.Spec.Replicas, 1))
}
