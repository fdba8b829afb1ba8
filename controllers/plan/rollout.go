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
// has enough of them, by one that has: a revision that served before, with which a
// candidate is then compared, or else the candidate.
//
// The ControllerRevisions are the record of which revision is stable, and of how far the
// target's canary got. The selector of the Service follows from them.
type rollout struct {
	// target is the revision that the spec requests, "" while there is none.
	target string
	// stable is the revision that was promoted last, "" before the first.
	stable string
	// baseline is the stable revision, or the one that served before and serves in its place.
	baseline string
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
	r := rollout{
		observed: x.Revisions, history: history, stable: x.Stable, baseline: x.Baseline, stableServed: served(x, x.Stable),
		selected: x.Selected, shared: x.SharesService(),
	}
	r.recorded = maps.Clone(r.history.records)
	r.history.forgetWithdrawn(x.FlagCache)
	if target != nil {
		r.target = target.Revision
	}
	r.full = revision.FullSize(x.FlagCache, r.observed[r.scaled()], x.Autoscalers[r.scaled()] != "")
	r.serves = r.baseline
	r.recordServing(x)
	switch {
	case r.target == "", r.target == r.stable:
	case r.history.unreadable[r.target] != nil:
		r.unreadable = true
	default:
		r.change(x, target)
	}
	r.keepPrevious(x)
	r.serves = r.instead()
	r.closeOthers(x)
	return r
}

// scaled is the revision that an autoscaler scales: a candidate that serves in place of the
// stable revision, else the baseline, or the first revision. That the candidate does follows
// from its record, or, while that cannot be written, from the baseline that cannot serve.
func (r rollout) scaled() string {
	record := r.recorded[r.target]
	replaced := r.observed.down(r.baseline) || record.Canary != nil && record.Canary.Progress.StableDownFor > 0
	if r.selected == r.target && replaced {
		return r.target
	}
	return cmp.Or(r.baseline, r.target)
}

// instead is the revision that the Service is to select: the one that was decided on, or,
// while that has no ready pod, one that has: those that were judged first, and what was
// rejected last. While a candidate may serve in place of the stable revision, the Service is
// not moved back before there are as many ready pods, or all that are needed.
func (r rollout) instead() string {
	standsIn := r.canary != nil && r.canary.StandsIn && r.selected == r.target && !r.shared
	if standsIn && r.observed.ready(r.serves) < min(r.full, r.observed.ready(r.selected)) {
		return r.selected
	}
	rejected := func(revision string) bool {
		return r.history.records[revision].Rejected() || r.history.unreadable[revision] != nil
	}
	judged := []string{r.serves, r.baseline, r.stable, r.previous}
	others := append([]string{r.target}, slices.Sorted(maps.Keys(r.observed))...)
	accepted := slices.DeleteFunc(slices.Clone(others), rejected)
	for _, revision := range slices.Concat(judged, accepted, []string{r.selected}, others) {
		if r.observed.ready(revision) > 0 {
			return revision
		}
	}
	return r.serves
}

// recordServing records that the stable revision was observed to serve, whatever the spec
// requests by now, and which revision may be selected in its place.
func (r *rollout) recordServing(x *observed.Index) {
	record := r.history.of(r.stable, x.Now)
	observedToServe := r.selected == r.stable && r.observed.ready(r.stable) > 0 && r.history.unreadable[r.stable] == nil
	if observedToServe && record.Outcome != canary.Promoted {
		last, _ := r.history.lastPromoted(r.stable)
		record = record.Promoted(x.Now, last.FinishedAt, len(x.FlagCache.Spec.Canary.GetSteps()))
		record.Used = canaryCommands(x.FlagCache, r.stable).Once()
		r.history.records[r.stable] = record
	}
	for revision, record := range r.history.records {
		if record.Outcome == canary.Promoted {
			record.Admitted = revision == r.baseline && revision != r.stable
			r.history.records[revision] = record
		}
	}
}

// keepPrevious keeps the predecessor of the stable revision for as long as the spec says
// after its promotion. One that has no ready pod yet, or none any more, may still be replaced
// by its predecessor.
func (r *rollout) keepPrevious(x *observed.Index) {
	if len(x.Predecessors) == 0 {
		return
	}
	record, previous := r.history.records[r.stable], x.Predecessors[0]
	switch {
	case r.history.unreadable[r.stable] != nil:
	case record.Outcome != canary.Promoted || r.observed.down(r.stable):
		r.previous = previous
	case r.target == r.stable && x.FlagCache.Spec.Canary != nil:
		delay := x.FlagCache.Spec.Canary.ScaleDownDelay.Duration
		left := record.FinishedAt.Add(delay).Sub(x.Now)
		// A promotion far in the future was recorded by a clock that has been set back since.
		if left > 0 && left <= 2*delay {
			r.previous, r.previousFor = previous, left
		}
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
	serves := r.observed.down(r.baseline) || r.baseline == r.target
	ready := revision.Available(r.observed[r.target], r.full) || serves && r.observed.ready(r.target) > 0
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
	for _, revision := range []string{r.stable, r.baseline, r.candidate(), r.previous, r.serves} {
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
	for _, revision := range []string{r.stable, r.baseline, r.target, r.previous} {
		if revision != "" && !slices.Contains(revisions, revision) {
			revisions = append(revisions, revision)
		}
	}
	return revisions
}

// serving are the revisions that clients get answers from: the stable one until its
// successor was observed to be selected, what serves in its place, that one, and a candidate
// with a share.
func (r rollout) serving() []string {
	serving := []string{r.serves, r.stable, r.baseline}
	if r.canary != nil && r.canary.Weight > 0 {
		serving = append(serving, r.target)
	}
	serving = slices.DeleteFunc(serving, func(revision string) bool { return revision == "" })
	slices.Sort(serving)
	return slices.Compact(serving)
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
	case revision == r.stable, revision == r.baseline:
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
// there is none. Of several it is the one that is not being evaluated.
func answering(r rollout) string {
	selected := []string{r.selected}
	if r.shared {
		selected = []string{r.baseline, r.stable, r.target}
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

// down reports whether none of a revision's pods is ready.
func (d deploymentsByRevision) down(revision string) bool {
	return revision != "" && d.ready(revision) == 0
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
		return record.Outcome == canary.Promoted || record.Passed
	}
	return x.Records.Unreadable[revision] != nil || slices.ContainsFunc(x.FlagCache.Status.History, func(entry v1alpha1.HistoryEntry) bool {
		return entry.Revision == revision && entry.Outcome == string(canary.Promoted)
	})
}
