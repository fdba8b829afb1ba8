// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
)

// RollbackReasons are the reasons of rollbacks that do not come from a pod.
func RollbackReasons() []string {
	return append(canary.RollbackReasons(), v1alpha1.ReasonProgressDeadlineExceeded)
}

// canaryInput is what the canary of the target is decided on.
func canaryInput(x *observed.Index, r *rollout, target *targetRevision, record canary.Record) canary.Input {
	shares := func(revision string) bool {
		d := r.observed[revision]
		return d != nil && connection.HashOf(d) == target.Pod.Annotations[v1alpha1.AnnotationConnection]
	}
	in := canary.Input{
		Now:            x.Now,
		Candidate:      r.target,
		Spec:           canarySpec(x.FlagCache.Spec.Canary),
		Commands:       canaryCommands(x.FlagCache, r.target).Except(record.Used),
		Evidence:       x.Evidence,
		Pods:           candidatePods(r.observed[r.target], x.DeploymentFailure(r.observed[r.target])),
		Stable:         canary.Stable{Down: r.observed.down(r.baseline), NeverServed: r.baseline == r.stable && !r.stableServed, Replaced: !r.shared && r.selected != r.baseline},
		Serves:         !r.shared && r.selected == r.target,
		FullSize:       r.full,
		SharesCache:    shares(r.baseline) && shares(r.stable),
		Probe:          canary.Probe{Unhealthy: x.Probe.Health == observed.Unhealthy, At: x.Probe.At, Failing: x.Probe.Failing},
		ObservedWeight: traffic.ObservedWeight(x, r.target),
		Exposed:        x.SharesService(),
		OtherRevisions: r.observed.besides(r.stable, r.baseline, r.target),
		Gateway:        traffic.Gateway(x, r.target),
		LoadTest:       revision.LoadTestResult(x, record),
		LoadTestWaits:  revision.LoadTestFailure(x, record),
	}
	if record.Canary != nil {
		in.Recorded = *record.Canary
	}
	return in
}

// canarySpec is the part of the spec about canaries.
func canarySpec(spec *v1alpha1.CanarySpec) canary.Spec {
	steps := make([]canary.Step, len(spec.Steps))
	for i, step := range spec.Steps {
		steps[i] = canary.Step{Weight: step.Weight, Duration: step.Duration.Duration}
	}
	return canary.Spec{
		Steps:          steps,
		Replicas:       spec.Traffic.Type == v1alpha1.TrafficReplicas,
		LoadTest:       spec.LoadTest != nil,
		Interval:       spec.Metrics.Interval.Duration,
		Deadline:       spec.Deadline.Duration,
		OnInconclusive: canary.InconclusivePolicy(spec.OnInconclusive),
		Policy:         canaryPolicy(spec),
	}
}

// canaryPolicy is what a candidate is judged by. The limits of latencies are those of
// their percentiles; what the spec sets for them is how long a request may take.
func canaryPolicy(spec *v1alpha1.CanarySpec) canary.Policy {
	limits := canary.DefaultLimits()
	if p, ok := canary.ParsePercent(string(spec.Thresholds.ErrorRate)); ok {
		limits[canary.ErrorRate] = p
	}
	if p, ok := canary.ParsePercent(string(spec.Thresholds.CacheHitRate)); ok {
		limits[canary.CacheHitRate] = 1 - p
	}
	confidence, ok := canary.ParsePercent(string(spec.Confidence))
	if !ok {
		confidence = defaultConfidence
	}
	p := canary.NewPolicy(confidence, limits)
	p.MinimumRequests, p.Strict = spec.MinimumRequests, spec.Strict
	if spec.Blocks != nil {
		p.Block, p.MinimumBlocks = spec.Blocks.Duration.Duration, int64(spec.Blocks.Minimum)
	}
	return p
}

// defaultConfidence is that of the API.
const defaultConfidence = 0.99

// canaryCommands are the annotations that are about a candidate.
func canaryCommands(fc *v1alpha1.FlagCache, candidate string) canary.Commands {
	given := func(annotation string) bool { return candidate != "" && fc.Annotations[annotation] == candidate }
	return canary.Commands{
		Abort:   given(v1alpha1.AnnotationAbort),
		Promote: given(v1alpha1.AnnotationPromote),
		Pause:   given(v1alpha1.AnnotationPause),
		Resume:  given(v1alpha1.AnnotationResume),
	}
}

// candidatePods are the pods of a candidate's Deployment. What is known of an earlier
// generation of it is not about the present size and template, but its pods serve.
func candidatePods(d *appsv1.Deployment, failure observed.PodFailure) canary.Pods {
	pods := canary.Pods{}
	if d != nil {
		pods = canary.Pods{Desired: ptr.Deref(d.Spec.Replicas, 1), Ready: d.Status.ReadyReplicas}
		if pods.Outdated = d.Status.ObservedGeneration < d.Generation; !pods.Outdated {
			pods.Updated, pods.Available = d.Status.UpdatedReplicas, d.Status.AvailableReplicas
		}
	}
	switch {
	case failure.Fatal:
		pods.Failure = &canary.Failure{Reason: failure.Reason, Message: failure.Message}
	case revision.DeadlineExceeded(d):
		pods.Failure = &canary.Failure{Reason: v1alpha1.ReasonProgressDeadlineExceeded, Message: fmt.Sprintf("its pods did not become available in %d seconds", revision.ProgressDeadline)}
		if failure.Reason != "" {
			pods.Failure.Message += ": " + failure.Message
		}
	}
	pods.Waits = failure.Message
	return pods
}
