// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
)

// verdict is the condition Ready, and which of Reconciling and Stalled accompanies it
// (kstatus).
type verdict struct {
	ready metav1.Condition
	// progressing: the operator makes progress, or waits for something to happen.
	progressing bool
	// stalled: a person has to intervene.
	stalled bool
	// background is the progress of a cache that serves, while Ready is True.
	background cache.Progress
}

// cacheHealthy reports the result of the probe. Until there is one, as after a restart of
// the operator, the last result about the same endpoint stands.
func cacheHealthy(s *observed.Index, p results) metav1.Condition {
	const kind = v1alpha1.ConditionCacheHealthy
	if p.connection.InUse == nil {
		return conditions.Unknown(kind, v1alpha1.ReasonNoEndpoint, "There is no endpoint to probe yet")
	}
	switch s.Probe.Health {
	case observed.Healthy:
		if foreignStore(s, p) {
			return conditions.False(kind, v1alpha1.ReasonForeignStore,
				"Redis has the flags of another FlagCache or flag service for environment %s, which are not used: set another spec.environment in one of them, or use another Redis",
				s.FlagCache.Spec.Environment)
		}
		return conditions.True(kind, v1alpha1.ReasonHealthy, "Connecting, authenticating, writing and reading back succeed")
	case observed.Unhealthy:
		return conditions.False(kind, s.Probe.Reason, "%s", s.Probe.Message)
	}
	if probed(s, p.connection.InUse) {
		return *meta.FindStatusCondition(s.FlagCache.Status.Conditions, kind)
	}
	if s.Probe.Message != "" {
		return conditions.Unknown(kind, v1alpha1.ReasonProbing, "No probe has succeeded yet: %s", s.Probe.Message)
	}
	return conditions.Unknown(kind, v1alpha1.ReasonProbing, "The first probe has not finished yet")
}

// foreignStore reports whether Redis has the document of another store under this
// environment, by what pods report. Once reported, it has until all pods were found not to
// report it: a restarted operator knows nothing of pods yet.
func foreignStore(s *observed.Index, p results) bool {
	before := meta.FindStatusCondition(s.FlagCache.Status.Conditions, v1alpha1.ConditionCacheHealthy)
	reported := before != nil && before.Reason == v1alpha1.ReasonForeignStore
	asked := s.Delivery.Known && !s.Delivery.Incomplete
	return p.flags.Delivery != nil && (s.Delivery.Foreign || reported && !asked)
}

// serviceAvailable is about the target revision or, while that has a canary or was
// rejected, about the one that serves instead; but about the target if that is to replace one
// without ready pods.
func serviceAvailable(x *observed.Index, p servicePlan) metav1.Condition {
	const kind = v1alpha1.ConditionServiceAvailable
	r := p.rollout
	name := r.target
	if r.rejected || r.unreadable || r.canary != nil && !r.observed.down(r.baseline) {
		name = r.baseline
	}
	d := r.observed[name]
	failure := x.DeploymentFailure(d)
	switch {
	case p.blocked == v1alpha1.ReasonWaitingForConnection:
		return conditions.False(kind, p.blocked, "Waiting for a connection to the cache before starting pods of this spec")
	case p.blocked == v1alpha1.ReasonWaitingForFlags:
		return conditions.False(kind, p.blocked, "Waiting for a usable source of flags before starting pods of this spec")
	case revision.Available(d, p.replicas):
		return conditions.True(kind, v1alpha1.ReasonAvailable, "Every replica is available")
	case revision.DeadlineExceeded(d):
		return conditions.False(kind, v1alpha1.ReasonProgressDeadlineExceeded, "Deployment %s did not become available in %d seconds: %s",
			d.Name, revision.ProgressDeadline, cmp.Or(failure.Message, "see its pods and events"))
	case failure.Reason != "":
		return conditions.False(kind, failure.Reason, "Waiting for the replicas of revision %s: %s", name, failure.Message)
	default:
		return conditions.False(kind, v1alpha1.ReasonProgressing, "Waiting for the replicas of revision %s", name)
	}
}

// serving is about the pods that the Service was observed to select, whatever the spec
// requests.
func serving(x *observed.Index, p servicePlan) metav1.Condition {
	if serving := answering(p.rollout); serving != "" {
		return conditions.True(v1alpha1.ConditionServing, v1alpha1.ReasonServing, "Revision %s is serving", serving)
	}
	message := "No replica behind the Service is ready"
	if failure := x.DeploymentFailure(p.rollout.observed[p.rollout.baseline]); failure.Reason != "" {
		message += ": " + failure.Message
	}
	return conditions.False(v1alpha1.ConditionServing, v1alpha1.ReasonNoReadyReplicas, "%s", message)
}

func rolloutHealthy(x *observed.Index, p servicePlan) metav1.Condition {
	const kind = v1alpha1.ConditionRolloutHealthy
	r := p.rollout
	candidate := r.candidate()
	switch {
	case r.stable == "":
		return conditions.Unknown(kind, v1alpha1.ReasonNotStarted, "No revision is serving yet")
	case r.rejected:
		return rolledBack(r)
	case r.unreadable:
		return recordUnreadable(r)
	case r.observed.down(r.stable) && r.target == r.stable && !r.stableServed:
		return conditions.Unknown(kind, v1alpha1.ReasonNotStarted, "Revision %s, the first, has had no ready pod yet", r.stable)
	case r.observed.down(r.stable), r.baseline != r.stable:
		return stableUnavailable(r)
	case r.canary != nil:
		return canaryHealthy(r)
	case candidate == "" && len(r.history.unreadable) > 0:
		return recordUnreadable(r)
	case candidate == "":
		return conditions.True(kind, v1alpha1.ReasonStable, "Revision %s is stable, and no other is being rolled out", r.stable)
	case revision.DeadlineExceeded(r.observed[candidate]):
		return conditions.False(kind, v1alpha1.ReasonRolloutStuck, "Revision %s does not become available, revision %s stays: %s",
			candidate, r.stable, cmp.Or(x.DeploymentFailure(r.observed[candidate]).Message, "see the pods of Deployment "+r.observed[candidate].Name))
	default:
		return conditions.True(kind, v1alpha1.ReasonRollingOut, "Revision %s is starting, revision %s is stable", candidate, r.stable)
	}
}

// terminalReasons are those that do not resolve by waiting.
var terminalReasons = []string{
	v1alpha1.ReasonNameConflict,
	v1alpha1.ReasonInvalidChild,
	v1alpha1.ReasonStatusRejected,
	v1alpha1.ReasonLabelChanged,
	v1alpha1.ReasonSecretNotPermitted,
	v1alpha1.ReasonSecretInvalid,
	v1alpha1.ReasonAWSRejected,
	v1alpha1.ReasonAlreadyExists,
	v1alpha1.ReasonClusterUnidentified,
	v1alpha1.ReasonCreateRetriesExhausted,
	v1alpha1.ReasonInvalidRecord,
	v1alpha1.ReasonUnparseable,
	v1alpha1.ReasonFlagsRejected,
	v1alpha1.ReasonPodsBehind,
	v1alpha1.ReasonProgressDeadlineExceeded,
	v1alpha1.ReasonRolledBack,
	v1alpha1.ReasonCanaryInconclusive,
	v1alpha1.ReasonBudgetExceeded,
	v1alpha1.ReasonRegionUnknown,
}

// summarize finds the first condition that keeps the FlagCache from being Ready. What
// others depend on comes first.
func summarize(p results, all []metav1.Condition) verdict {
	if len(p.conflicts) > 0 {
		return nameConflict(p.conflicts)
	}
	if p.cache.Cost.Held {
		return blockedBy(*p.cache.Cost.Budget)
	}
	order := []string{
		v1alpha1.ConditionFlagsValid,
		v1alpha1.ConditionCacheProvisioned,
		v1alpha1.ConditionConnectionReady,
		v1alpha1.ConditionServiceAvailable,
		v1alpha1.ConditionServing,
		v1alpha1.ConditionRolloutHealthy,
		v1alpha1.ConditionCacheHealthy,
	}
	for _, kind := range order {
		c := meta.FindStatusCondition(all, kind)
		inBackground := kind == v1alpha1.ConditionCacheProvisioned && c.Reason == p.cache.Progress.Reason
		if c.Status != metav1.ConditionTrue && !inBackground {
			return blockedBy(*c)
		}
	}
	if candidate := p.service.rollout.candidate(); candidate != "" {
		return verdict{progressing: true, ready: rollingOut(p.service.rollout)}
	}
	return verdict{background: p.cache.Progress, ready: conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "Flags are served by revision %s with a healthy cache", answering(p.service.rollout))}
}

// blockedBy is the verdict for a condition that keeps the FlagCache from being Ready. An
// unhealthy cache is neither Reconciling nor Stalled: whoever operates it has to act.
func blockedBy(c metav1.Condition) verdict {
	stalled := slices.Contains(terminalReasons, c.Reason)
	return verdict{
		ready:       conditions.New(v1alpha1.ConditionReady, c.Status, c.Reason, "%s", c.Message),
		stalled:     stalled,
		progressing: !stalled && (c.Type != v1alpha1.ConditionCacheHealthy || c.Status == metav1.ConditionUnknown),
	}
}

func nameConflict(others []observed.Object) verdict {
	return verdict{stalled: true, ready: conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonNameConflict, "%s", DescribeConflicts(others))}
}

// maxConflicts is how many objects a message names.
const maxConflicts = 20

// DescribeConflicts names the objects that have the names of children.
func DescribeConflicts(others []observed.Object) string {
	var names []string
	for _, other := range others[:min(len(others), maxConflicts)] {
		names = append(names, observed.KindOf(other)+" "+other.GetName())
	}
	if more := len(others) - maxConflicts; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if slices.ContainsFunc(others, observed.Orphaned) {
		return strings.Join(names, ", ") + " exist and are not controlled by this FlagCache: delete or rename them, or, if a deleted FlagCache of this name left them, " +
			"let this one take them back by the annotation " + v1alpha1.AnnotationAdoptChildren + " with its UID"
	}
	if len(others) == 1 {
		return names[0] + " exists and is not controlled by this FlagCache: delete or rename it, or choose another name for the FlagCache"
	}
	return strings.Join(names, ", ") + " exist and are not controlled by this FlagCache: delete or rename them, or choose another name for the FlagCache"
}

// setConditions sets the verdict and the conditions. Reconciling and Stalled are present
// only while true (kstatus).
func setConditions(fc *v1alpha1.FlagCache, now time.Time, st *v1alpha1.FlagCacheStatus, v verdict, all []metav1.Condition) {
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionStalled)
	switch {
	case v.background.Reason != "":
		all = append(all, conditions.True(v1alpha1.ConditionReconciling, v.background.Reason, "%s", v.background.Message))
	case v.progressing:
		all = append(all, conditions.True(v1alpha1.ConditionReconciling, v.ready.Reason, "%s", v.ready.Message))
	}
	if v.stalled {
		all = append(all, conditions.True(v1alpha1.ConditionStalled, v.ready.Reason, "%s", v.ready.Message))
	}
	for _, c := range append([]metav1.Condition{v.ready}, all...) {
		c.ObservedGeneration = fc.Generation
		c.LastTransitionTime = transitionTime(fc, now, c)
		meta.SetStatusCondition(&st.Conditions, c)
	}
}

// transitionTime keeps the time of a condition whose status did not change, even if it
// was removed in between.
func transitionTime(fc *v1alpha1.FlagCache, now time.Time, c metav1.Condition) metav1.Time {
	if old := meta.FindStatusCondition(fc.Status.Conditions, c.Type); old != nil && old.Status == c.Status {
		return old.LastTransitionTime
	}
	return metav1.NewTime(now).Rfc3339Copy()
}
