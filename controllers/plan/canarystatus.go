// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
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
// revision stays, because it says why.
func canaryStatus(s *observed.Index, r rollout) *v1alpha1.CanaryStatus {
	record, c := r.history.records[r.target], r.canary
	if record.Trial == nil || (c == nil && !r.rejected) {
		return nil
	}
	trial := record.Trial
	steps := len(s.FlagCache.Spec.Canary.GetSteps())
	st := &v1alpha1.CanaryStatus{
		Step:          int32(min(trial.Step, steps)),
		ObservedFor:   int64(trial.Observed.Seconds()),
		StepStartedAt: timeOf(trial.StepStartedAt),
		Checks:        checkStatuses(trial),
		Summary:       "rolled back",
	}
	if weight, ok := trial.measuredWeight(); ok {
		st.ActualWeight = percent(weight)
	}
	if c != nil {
		st.Phase, st.Weight = c.phase, c.weight
		st.Summary = fmt.Sprintf("%d%% %d/%d", c.weight, st.Step, steps)
	}
	switch {
	case c == nil:
	case !c.stepStartedAt.Equal(trial.StepStartedAt):
		st.StepStartedAt = nil
	case trial.Step > 0 && trial.Step <= steps:
		st.DeadlineAt = timeOf(trial.StepStartedAt.Add(s.FlagCache.Spec.Canary.Deadline.Duration))
	}
	return st
}

func checkStatuses(t *Trial) []v1alpha1.CheckStatus {
	var checks []v1alpha1.CheckStatus
	for _, r := range t.Judge() {
		st := v1alpha1.CheckStatus{Name: string(r.Check), Limit: percent(r.Limit), Requests: r.Counts.Total, Blocks: r.Blocks, Verdict: string(r.Verdict)}
		if t.Policy.observations(r) > 0 {
			st.Observed, st.Lower, st.Upper = percent(r.Result.Observed), percent(r.Result.Lower), percent(r.Result.Upper)
		}
		checks = append(checks, st)
	}
	return checks
}

// historyStatus are the trials that are over. While a beginning or an end cannot be
// recorded, each look decides it anew and at another time: what was said first stays.
func historyStatus(s *observed.Index, r rollout) []v1alpha1.HistoryEntry {
	recorded := readHistory(s).records
	var entries []v1alpha1.HistoryEntry
	for _, record := range r.history.newest() {
		if record.Outcome == "" || len(entries) == mostRecords {
			continue
		}
		entry := v1alpha1.HistoryEntry{
			Revision: record.Revision, Outcome: string(record.Outcome), Reason: record.Reason,
			StartedAt: timeOf(record.StartedAt), FinishedAt: timeOf(record.FinishedAt),
		}
		seen, begun := recorded[record.Revision]
		if !begun || seen.Outcome != record.Outcome {
			entry.StartedAt, entry.FinishedAt = saidTimes(s, entry, begun)
		}
		entries = append(entries, entry)
	}
	return entries
}

// saidTimes are when a trial began and ended by the status, or else as they are now.
func saidTimes(s *observed.Index, entry v1alpha1.HistoryEntry, begun bool) (started, finished *metav1.Time) {
	for _, said := range s.FlagCache.Status.History {
		if said.Revision == entry.Revision && said.Outcome == entry.Outcome && (!begun || said.StartedAt.Equal(entry.StartedAt)) {
			return said.StartedAt, said.FinishedAt
		}
	}
	return entry.StartedAt, entry.FinishedAt
}

// canaryHealthy says how a canary goes.
func canaryHealthy(c canaryState, stable string) metav1.Condition {
	const kind = v1alpha1.ConditionRolloutHealthy
	switch {
	case c.record.Outcome == RolledBack:
		return rolledBack(stable, c.record)
	case c.record.Trial.Inconclusive:
		return conditions.Unknown(kind, v1alpha1.ReasonCanaryInconclusive, "%s", c.message)
	case c.phase == v1alpha1.CanaryHeld:
		return conditions.Unknown(kind, v1alpha1.ReasonCanaryHeld, "Revision %s does not get on for now: %s", c.record.Revision, c.message)
	default:
		return conditions.True(kind, canaryReason(c), "%s", canarySentence(c, stable))
	}
}

// rolledBack says why a revision was rejected, and what to do.
func rolledBack(stable string, record Record) metav1.Condition {
	return conditions.False(v1alpha1.ConditionRolloutHealthy, v1alpha1.ReasonRolledBack,
		"Revision %s was rolled back (%s): %s. Revision %s serves. Change the spec, or annotate %s=%s to try it once more",
		record.Revision, record.Reason, record.Message, stable, v1alpha1.AnnotationRetry, record.Revision)
}

// onItsWay is what Ready says while another revision is on its way.
func onItsWay(r rollout) metav1.Condition {
	if r.canary != nil {
		return conditions.False(v1alpha1.ConditionReady, canaryReason(*r.canary), "%s", canarySentence(*r.canary, r.stable))
	}
	return conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonRollingOut, "Revision %s is starting", r.candidate())
}

func canaryReason(c canaryState) string {
	if c.phase == v1alpha1.CanaryPaused {
		return v1alpha1.ReasonCanaryPaused
	}
	return v1alpha1.ReasonCanaryProgressing
}

// canarySentence says what a canary does. It has no numbers that change from look
// to look: those are in status.canary.
func canarySentence(c canaryState, stable string) string {
	text := fmt.Sprintf("Revision %s is on trial (%s), revision %s serves", c.record.Revision, c.phase, stable)
	if c.phase == v1alpha1.CanaryStepping {
		text = fmt.Sprintf("Revision %s is on trial with %d %% of the traffic, revision %s serves the rest", c.record.Revision, c.weight, stable)
	}
	if c.message != "" {
		text += ". " + c.message
	}
	return text
}
