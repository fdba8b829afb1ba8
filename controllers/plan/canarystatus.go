// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// revisionsStatus names the revisions, nil before the first.
func revisionsStatus(r rollout) *v1alpha1.RevisionsStatus {
	st := v1alpha1.RevisionsStatus{Stable: r.stable, Candidate: r.candidate()}
	if r.rejected {
		st.Rejected = r.target
	}
	if st == (v1alpha1.RevisionsStatus{}) {
		return nil
	}
	return &st
}

// canaryStatus shows a canary with all that it is judged by. That of a rejected
// revision stays, because it shows why.
func canaryStatus(x *observed.Index, r rollout) *v1alpha1.CanaryStatus {
	state, decision := r.record().Canary, r.canary
	if state == nil || (decision == nil && !r.rejected) {
		return nil
	}
	progress := state.Progress
	spec := x.FlagCache.Spec.Canary
	steps := len(spec.GetSteps())
	st := &v1alpha1.CanaryStatus{
		Step:          int32(min(progress.Step, steps)),
		ObservedFor:   int64(progress.Observed.Seconds()),
		StepStartedAt: timeOf(progress.StepStartedAt),
		Checks:        checkStatuses(*state),
		Summary:       "rolled back",
	}
	if weight, ok := state.Ledger.MeasuredWeight(); ok {
		st.ActualWeight = percent(weight)
	}
	if decision == nil {
		return st
	}
	st.Phase, st.Weight = v1alpha1.CanaryPhase(decision.Phase), decision.Weight
	st.Summary = fmt.Sprintf("%d%% %d/%d", decision.Weight, st.Step, steps)
	switch {
	case !r.stepBegun:
		st.StepStartedAt = nil
	case progress.Step > 0 && progress.Step <= steps:
		st.DeadlineAt = timeOf(progress.StepStartedAt.Add(max(spec.Deadline.Duration, spec.Steps[progress.Step-1].Duration.Duration)))
	}
	return st
}

func checkStatuses(state canary.State) []v1alpha1.CheckStatus {
	var checks []v1alpha1.CheckStatus
	for _, r := range state.Judge() {
		st := v1alpha1.CheckStatus{Name: string(r.Check), Limit: percent(r.Limit), Requests: r.Counts.Total, Blocks: r.Blocks, Verdict: string(r.Verdict)}
		if state.HasObservations(r) {
			st.Observed, st.Lower, st.Upper = percent(r.Result.Observed), percent(r.Result.Lower), percent(r.Result.Upper)
		}
		checks = append(checks, st)
	}
	return checks
}

// percent is a proportion as the API writes it.
func percent(p float64) v1alpha1.Percentage { return v1alpha1.Percentage(canary.Percent(p)) }

// historyStatus are the canaries that ended. While a beginning or an end cannot be
// recorded, each reconcile decides it again and at another time: the times that were
// reported first stay.
func historyStatus(x *observed.Index, r rollout) []v1alpha1.HistoryEntry {
	var entries []v1alpha1.HistoryEntry
	for _, record := range r.history.newest() {
		if record.Outcome == "" || len(entries) == maxRecords {
			continue
		}
		entry := v1alpha1.HistoryEntry{
			Revision: record.Revision, Outcome: string(record.Outcome), Reason: record.Reason,
			StartedAt: timeOf(record.StartedAt), FinishedAt: timeOf(record.FinishedAt),
		}
		recorded, begun := r.recorded[record.Revision]
		if !begun || recorded.Outcome != record.Outcome {
			entry.StartedAt, entry.FinishedAt = reportedTimes(x.FlagCache, entry, begun)
		}
		entries = append(entries, entry)
	}
	return entries
}

// reportedTimes are when a canary began and ended by the status, or else by the entry.
func reportedTimes(fc *v1alpha1.FlagCache, entry v1alpha1.HistoryEntry, begun bool) (started, finished *metav1.Time) {
	for _, reported := range fc.Status.History {
		if reported.Revision == entry.Revision && reported.Outcome == entry.Outcome && (!begun || reported.StartedAt.Equal(entry.StartedAt)) {
			return reported.StartedAt, reported.FinishedAt
		}
	}
	return entry.StartedAt, entry.FinishedAt
}

func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	at := metav1.NewTime(t).Rfc3339Copy()
	return &at
}

// canaryHealthy reports how a canary is doing.
func canaryHealthy(r rollout) metav1.Condition {
	const kind = v1alpha1.ConditionRolloutHealthy
	switch decision := r.canary; {
	case decision.Rollback != nil:
		return rolledBack(r)
	case decision.State.Progress.Inconclusive:
		return conditions.Unknown(kind, v1alpha1.ReasonCanaryInconclusive, "%s", canaryMessage(*decision))
	case decision.Phase == canary.Held:
		return conditions.Unknown(kind, v1alpha1.ReasonCanaryHeld, "The canary of revision %s is held: %s", r.target, decision.Message)
	default:
		return conditions.True(kind, canaryReason(*decision), "%s", describeCanary(r))
	}
}

// rolledBack reports why the target was rejected, and what to do.
func rolledBack(r rollout) metav1.Condition {
	record := r.record()
	return conditions.False(v1alpha1.ConditionRolloutHealthy, v1alpha1.ReasonRolledBack,
		"Revision %s was rolled back (%s): %s. %s. Change the spec, or annotate %s=%s to retry it",
		record.Revision, record.Reason, record.Message, describeServing(r), v1alpha1.AnnotationRetry, record.Revision)
}

// stableUnavailable reports that the stable revision does not serve, and what does.
func stableUnavailable(r rollout) metav1.Condition {
	problem := "has no ready pod"
	if !r.observed.down(r.stable) {
		problem = "has too few ready pods"
	}
	advice := "its Deployment was deleted, and its pod template is not on record"
	if d := r.observed[r.stable]; d != nil {
		advice = "see the pods of Deployment " + d.Name
	}
	message := fmt.Sprintf("Revision %s, which is stable, %s: %s. %s", r.stable, problem, advice, describeServing(r))
	switch candidate := r.candidate(); {
	case candidate == "":
	case !r.observed.down(r.baseline):
		message += fmt.Sprintf(". Revision %s is compared with revision %s", candidate, r.baseline)
	case answering(r) == candidate:
		message += fmt.Sprintf(", and is not evaluated meanwhile: annotate %s=%s to keep it", v1alpha1.AnnotationPromote, candidate)
	default:
		message += fmt.Sprintf(". Revision %s serves as soon as one of its pods is ready, without being evaluated", candidate)
	}
	return conditions.False(v1alpha1.ConditionRolloutHealthy, v1alpha1.ReasonStableUnavailable, "%s", message)
}

// describeServing describes which revision was observed to serve, as condition Serving does.
func describeServing(r rollout) string {
	serving := answering(r)
	if serving == "" {
		return "No revision serves"
	}
	return fmt.Sprintf("Revision %s serves", serving)
}

// recordUnreadable reports which record cannot be decoded, and what to do.
func recordUnreadable(r rollout) metav1.Condition {
	revision := r.target
	if !r.unreadable {
		revision = slices.Min(slices.Collect(maps.Keys(r.history.unreadable)))
	}
	return conditions.Unknown(v1alpha1.ConditionRolloutHealthy, v1alpha1.ReasonInvalidRevisionRecord,
		"Annotation %s of ControllerRevision %s cannot be read: %s. Revision %s is neither promoted nor retried. %s. "+
			"Restore the annotation, upgrade the operator if a newer version wrote it, or delete the ControllerRevision to try the revision as a new one",
		v1alpha1.AnnotationRecord, r.history.observed[revision].Name, r.history.unreadable[revision], revision, describeServing(r))
}

// rollingOut is Ready while another revision is being rolled out.
func rollingOut(r rollout) metav1.Condition {
	if r.canary != nil {
		return conditions.False(v1alpha1.ConditionReady, canaryReason(*r.canary), "%s", describeCanary(r))
	}
	return conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonRollingOut, "Revision %s is starting", r.candidate())
}

func canaryReason(decision canary.Decision) string {
	if decision.Phase == canary.Paused {
		return v1alpha1.ReasonCanaryPaused
	}
	return v1alpha1.ReasonCanaryProgressing
}

// describeCanary describes what a canary does. It has no numbers that change from reconcile
// to reconcile: those are in status.canary.
func describeCanary(r rollout) string {
	text := fmt.Sprintf("Revision %s is being evaluated (%s), revision %s serves all traffic", r.target, r.canary.Phase, r.baseline)
	if r.canary.Phase == canary.Stepping {
		text = fmt.Sprintf("Revision %s is being evaluated with %d %% of the traffic, revision %s serves the rest", r.target, r.canary.Weight, r.baseline)
	}
	if message := canaryMessage(*r.canary); message != "" {
		text += ". " + message
	}
	return text
}

// canaryMessage is what a canary waits for, and what a person can do about it.
func canaryMessage(decision canary.Decision) string {
	switch {
	case decision.Phase != canary.Paused:
		return decision.Message
	case decision.State.Progress.Inconclusive:
		return fmt.Sprintf("%s: annotate %s, %s or %s with the revision",
			decision.Message, v1alpha1.AnnotationResume, v1alpha1.AnnotationPromote, v1alpha1.AnnotationAbort)
	default:
		return fmt.Sprintf("%s: remove annotation %s, or set %s, to continue", decision.Message, v1alpha1.AnnotationPause, v1alpha1.AnnotationResume)
	}
}
