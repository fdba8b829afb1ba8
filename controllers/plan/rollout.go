// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// rollout is how traffic moves from one revision to the next.
//
//	no stable revision      ──▶ the target serves at once
//	stable, target the same ──▶ settled; the previous one stays for a while
//	stable, target another  ──▶ candidate beside it, tried by a canary; when that
//	                            passed and it was observed available at full size, the
//	                            Service selects it, and it is the stable one
//	stable, target rejected ──▶ the stable one serves until the spec changes
//	target's record unreadable ──▶ the stable one serves until the record is repaired
//
// Whatever the spec requests, a stable revision without a ready pod is replaced, until it
// has enough of them, by one that has: the previous one, or else the target.
//
// The ControllerRevisions are the record of which revision is stable, and of how far the
// target's canary got. The selector of the Service follows from them.
type rollout struct {
	// target is the revision that the spec requests, "" while there is none.
	target string
	// stable is the revision that was promoted last, "" before the first.
	stable string
	// selected is the revision that the Service was observed to select, shared whether it
	// selects the pods of all revisions.
	selected string
	shared   bool
	// stableServed: the stable revision was observed to serve, or may have been.
	stableServed bool
	// serves is the revision that the Service is to select now.
	serves string
	// previous is the revision that served before the stable one, for as long as it stays.
	previous string
	// previousFor is how much longer that is.
	previousFor time.Duration
	// rejected: the target was rejected, and that is on record.
	rejected bool
	// unreadable: it is not known what is on record about the target.
	unreadable bool
	// canary of the target, nil where there is none.
	canary *canary.Decision
	// begun: the beginning of the canary is on record, stepBegun: so is that of its step,
	// tested: so is the result of its load test.
	begun, stepBegun, tested bool
	// full is the size that carries all traffic.
	full int32
	// history has the records as they are to be kept, recorded those that were observed.
	history  history
	recorded map[string]canary.Record
	// observed are the Deployments of revisions, by revision.
	observed deploymentsByRevision
}

// decideRollout chooses the revision that serves, and how far its successor gets.
func decideRollout(x *observed.Index, history history, target *targetRevision) rollout {
	r := rollout{observed: x.Revisions, history: history, stable: x.Stable, stableServed: served(x, x.Stable), selected: x.Selected, shared: x.SharesService()}
	r.recorded = maps.Clone(r.history.records)
	r.history.forgetWithdrawn(x.FlagCache)
	if target != nil {
		r.target = target.Revision
	}
	r.full = revision.FullSize(x.FlagCache, r.observed[cmp.Or(r.stable, r.target)])
	r.serves = r.stable
	switch {
	case r.target == "":
	case r.target == r.stable:
		r.settle(x)
	case r.history.unreadable[r.target] != nil:
		r.unreadable = true
	default:
		r.change(x, target)
	}
	r.serves = r.instead()
	r.closeOthers(x)
	return r
}

// instead is the revision that the Service is to select: the one that was decided on, or,
// while that has no ready pod, one that has, the judged ones first. The Service is not moved back before there
// are as many ready pods, or all that are needed.
func (r rollout) instead() string {
	enough := min(r.full, r.observed.ready(r.selected))
	if r.selected != r.serves && !r.shared && r.observed.ready(r.serves) < enough {
		return r.selected
	}
	for _, revision := range []string{r.serves, r.stable, r.previous, r.target} {
		if r.observed.ready(revision) > 0 {
			return revision
		}
	}
	for _, revision := range slices.Sorted(maps.Keys(r.observed)) {
		if r.observed.ready(revision) > 0 && !r.history.records[revision].Rejected() {
			return revision
		}
	}
	return r.serves
}

// stableDown reports whether none of the stable revision's pods is ready.
func (r rollout) stableDown() bool { return r.stable != "" && r.observed.ready(r.stable) == 0 }

// settle records that the target was observed to serve, and keeps its predecessor for as
// long as the spec says. One that has no ready pod yet, or none any more, may still be
// replaced by its predecessor.
func (r *rollout) settle(x *observed.Index) {
	if r.history.unreadable[r.stable] != nil {
		return
	}
	last, ok := r.history.lastPromoted(r.stable)
	record := r.history.of(r.stable, x.Now)
	if record.Outcome != canary.Promoted && !r.stableDown() {
		record = record.Promoted(x.Now, last.FinishedAt, len(x.FlagCache.Spec.Canary.GetSteps()))
		record.Used = canaryCommands(x.FlagCache, r.stable).Once()
	}
	if _, exists := r.history.records[r.stable]; exists || record.Outcome == canary.Promoted {
		r.history.records[r.stable] = record
	}
	if !ok || r.observed[last.Revision] == nil {
		return
	}
	if record.Outcome != canary.Promoted || r.stableDown() {
		r.previous = last.Revision
		return
	}
	if x.FlagCache.Spec.Canary == nil {
		return
	}
	delay := x.FlagCache.Spec.Canary.ScaleDownDelay.Duration
	left := record.FinishedAt.Add(delay).Sub(x.Now)
	// A promotion far in the future was recorded by a clock that has been set back since.
	if left > 0 && left <= 2*delay {
		r.previous, r.previousFor = last.Revision, left
	}
}

// change moves on towards the target.
func (r *rollout) change(x *observed.Index, target *targetRevision) {
	if r.stable == "" {
		r.serves = r.target // the first needs no canary, and no record before it serves
		return
	}
	recorded, exists := r.history.records[r.target]
	record := r.reopen(x)
	record.Intent = target.intent
	r.begun = exists && recorded.Outcome == "" && recorded.StartedAt.Equal(record.StartedAt)
	r.rejected = record.Rejected()
	ready := revision.Available(r.observed[r.target], r.full) || r.stableDown() && r.observed.ready(r.target) > 0
	record.Admitted = false
	switch {
	case r.rejected:
	case record.Passed || len(x.FlagCache.Spec.Canary.GetSteps()) == 0:
		record.Admitted = ready
	default:
		r.tested = record.Canary != nil && record.Canary.Progress.LoadTest != nil
		in := canaryInput(x, r, target, record)
		decision := canary.Next(in)
		r.stepBegun = decision.State.Progress.StepStartedAt.Equal(in.Recorded.Progress.StepStartedAt)
		record.Admitted = decision.Passed && ready
		record.Canary, r.canary = &decision.State, &decision
		if rollback := decision.Rollback; rollback != nil {
			record = record.Finished(x.Now, canary.RolledBack, rollback.Reason, rollback.Message)
			record.Used = canaryCommands(x.FlagCache, r.target).Once()
		}
	}
	if record.Admitted {
		r.serves = r.target
	}
	r.history.records[r.target] = record
}

// reopen is the target's record, a new one if the last attempt is over.
func (r *rollout) reopen(x *observed.Index) canary.Record {
	record := r.history.of(r.target, x.Now)
	retry := x.FlagCache.Annotations[v1alpha1.AnnotationRetry] == r.target
	if record.Rejected() && (!retry || record.Retried) {
		record.Retried = retry
		return record
	}
	if record.Outcome != "" {
		return record.Again(x.Now, retry, r.history.mayReturn(x, record))
	}
	return record
}

// record of the target.
func (r rollout) record() canary.Record { return r.history.records[r.target] }

// rollbackPending: the candidate was rejected just now. Its pods stay until that is on
// record: removed before, they would be missing at the next reconcile, which then has no
// reason to reject them.
func (r rollout) rollbackPending() bool { return r.canary != nil && r.canary.Rollback != nil }

// closeOthers gives revisions that the spec does not ask for any more their outcome,
// once. That also ends a rejection: a spec that returns to the revision means to try it
// again. While the target's record is unreadable, nothing is decided about others.
func (r *rollout) closeOthers(x *observed.Index) {
	if r.target == "" || r.unreadable {
		return
	}
	for revision, record := range r.history.records {
		switch {
		case revision == r.target, revision == r.stable:
			continue
		case record.Outcome == "":
			record = record.Superseded(x.Now, r.target)
			record.Used = canaryCommands(x.FlagCache, revision).Once()
		case record.Rejected():
			record.Lifted = true
		}
		r.history.records[revision] = record
	}
}

// candidate is the revision that is on its way: the target, until the Service was
// observed to select it. It is "" where there is none.
func (r rollout) candidate() string {
	if r.target == r.stable || r.rejected || r.unreadable {
		return ""
	}
	return r.target
}

// settled reports whether the revision of the spec was observed to serve, or none ever
// did.
func (r rollout) settled() bool {
	if r.target == "" {
		return r.stable == "" && len(r.observed) == 0
	}
	return r.stable == r.target
}

// kept are the revisions that should have a Deployment. The stable one is kept until its
// successor was observed to serve, and as long after that as the spec says; whatever
// serves is kept in any case.
func (r rollout) kept() []string {
	var kept []string
	for _, revision := range []string{r.stable, r.candidate(), r.previous, r.serves} {
		if revision != "" && !slices.Contains(kept, revision) {
			kept = append(kept, revision)
		}
	}
	return kept
}

// keeps reports whether a revision's Deployment stays. One that the Service was observed to
// select is not deleted before the Service was observed to select another.
func (r rollout) keeps(revision string) bool {
	return slices.Contains(r.kept(), revision) || revision != "" && revision == r.selected
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

// serving are the revisions that clients get answers from: the stable one until its
// successor was observed to be selected, that one, and a candidate with a share.
func (r rollout) serving() []string {
	serving := []string{r.serves}
	if r.stable != "" && r.stable != r.serves {
		serving = append(serving, r.stable)
	}
	if r.canary != nil && r.canary.Weight > 0 && r.target != r.serves {
		serving = append(serving, r.target)
	}
	return serving
}

// atRest reports whether nothing but the stable revision is needed.
func (r rollout) atRest() bool { return r.settled() && r.previous == "" }

// share is the candidate's share of the traffic; nil without a canary.
func (r rollout) share(fc *v1alpha1.FlagCache) *traffic.Share {
	if r.canary == nil {
		return nil
	}
	return &traffic.Share{Candidate: r.target, Type: fc.Spec.Canary.Traffic.Type, Weight: r.canary.Weight}
}

// routeShare is the share that the candidate has in a route: none from the moment that
// it is rejected.
func (r rollout) routeShare(fc *v1alpha1.FlagCache) *traffic.Share {
	if r.rollbackPending() {
		return nil
	}
	return r.share(fc)
}

// replicas is the size of a revision's Deployment; ok is false for one whose size is to
// stay as it is. A candidate that serves in place of the stable revision has the full size
// until the Service was observed to select another.
func (r rollout) replicas(revision string) (replicas int32, ok bool) {
	switch {
	case revision == r.stable:
		return r.full, true
	case revision != r.candidate(), r.rollbackPending():
		return 0, false
	case r.canary != nil && revision != r.serves && (r.shared || revision != r.selected):
		return r.canary.Replicas, true
	default:
		return r.full, true
	}
}

// answering is the revision with ready pods that the Service was observed to select, "" if
// there is none. Of several it is the stable one.
func answering(r rollout) string {
	selected := []string{r.selected}
	if r.shared {
		selected = []string{r.stable, r.target}
	}
	for _, revision := range selected {
		if r.observed.ready(revision) > 0 {
			return revision
		}
	}
	return ""
}

// deploymentsByRevision are the Deployments of revisions.
type deploymentsByRevision map[string]*appsv1.Deployment

// ready is the number of a revision's ready pods.
func (d deploymentsByRevision) ready(revision string) int32 {
	if deployment := d[revision]; deployment != nil {
		return deployment.Status.ReadyReplicas
	}
	return 0
}

// besides reports whether there are revisions besides these.
func (d deploymentsByRevision) besides(revisions ...string) bool {
	for revision := range d {
		if !slices.Contains(revisions, revision) {
			return true
		}
	}
	return false
}

// use reports whether the pods of some revision use a connection.
func (d deploymentsByRevision) use(hash string) bool {
	for _, deployment := range d {
		if connection.HashOf(deployment) == hash {
			return true
		}
	}
	return false
}

// served reports whether a revision is on record as promoted, or, where its record was lost
// or cannot be decoded, may have been.
func served(x *observed.Index, revision string) bool {
	if record, ok := x.Records.Known[revision]; ok {
		return record.Outcome == canary.Promoted
	}
	return x.Records.Unreadable[revision] != nil || slices.ContainsFunc(x.FlagCache.Status.History, func(entry v1alpha1.HistoryEntry) bool {
		return entry.Revision == revision && entry.Outcome == string(canary.Promoted)
	})
}
