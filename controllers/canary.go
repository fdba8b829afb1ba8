// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// watchCanary starts, continues or stops sampling a canary as planned.
func (r *Reconciler) watchCanary(fc *v1alpha1.FlagCache, target *plan.EvidenceTarget) {
	key := client.ObjectKeyFromObject(fc)
	if target == nil {
		r.Sampler.Forget(key)
		return
	}
	thresholds := target.Canary.Thresholds
	r.Sampler.Watch(key, evidence.Target{
		FlagCache:      key,
		Candidate:      target.Candidate,
		Stable:         target.Stable,
		Split:          target.Canary.Traffic.Type == v1alpha1.TrafficSplit,
		Interval:       target.Canary.Metrics.Interval.Duration,
		LatencyP95:     thresholds.LatencyP95.Duration,
		LatencyP99:     thresholds.LatencyP99.Duration,
		MissLatencyP95: thresholds.MissLatencyP95.Duration,
		Since:          target.Since,
		Type:           target.Canary.Metrics.Type,
		Prometheus:     target.Canary.Metrics.Prometheus.DeepCopy(),
		CloudWatch:     target.Canary.Metrics.CloudWatch.DeepCopy(),
	})
}

// maxPodsRead of one revision.
const maxPodsRead = 200

// podFailures returns what keeps the pods of non-serving revisions from running. Pods
// are read from the API server, and only while there are such revisions: a cache of
// all pods would cost memory for a rare need.
func (o *observer) podFailures(ctx context.Context, fc *v1alpha1.FlagCache, children []observed.Object) (map[string]observed.PodFailure, error) {
	failures := map[string]observed.PodFailure{}
	for _, revision := range nonServingRevisions(fc, children) {
		pods := &corev1.PodList{}
		err := o.live.List(ctx, pods, client.InNamespace(fc.Namespace), client.Limit(maxPodsRead), client.MatchingLabels{
			v1alpha1.LabelName: fc.Name, v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelRevision: revision,
		})
		if err != nil {
			return nil, err
		}
		for i := range pods.Items {
			if failure := observed.PodFailureOf(&pods.Items[i]); failure.Reason != "" {
				failures[revision] = failure
				break
			}
		}
	}
	return failures, nil
}

// nonServingRevisions returns the revisions that have a Deployment and are not
// selected by the Service. There are none while the Service selects no revision.
func nonServingRevisions(fc *v1alpha1.FlagCache, children []observed.Object) []string {
	stable := ""
	var revisions []string
	for _, child := range children {
		switch o := child.(type) {
		case *corev1.Service:
			if o.Name == observed.ServiceName(fc) {
				stable = o.Spec.Selector[v1alpha1.LabelRevision]
			}
		case *appsv1.Deployment:
			if metav1.IsControlledBy(o, fc) && o.DeletionTimestamp == nil {
				revisions = append(revisions, o.Labels[v1alpha1.LabelRevision])
			}
		}
	}
	var others []string
	for _, revision := range revisions {
		if stable != "" && revision != stable {
			others = append(others, revision)
		}
	}
	return others
}

// loadTests returns what the pods of load tests do, by the UID of the Job. They are read
// from the API server, and only while there is a Job. Whether the Job finished does not
// matter: it does not while the proxy of a service mesh runs in its pod.
func (o *observer) loadTests(ctx context.Context, fc *v1alpha1.FlagCache, children []observed.Object) (map[types.UID]observed.LoadTest, error) {
	tests := map[types.UID]observed.LoadTest{}
	for _, child := range children {
		job, ok := child.(*batchv1.Job)
		if !ok || !metav1.IsControlledBy(job, fc) || job.DeletionTimestamp != nil {
			continue
		}
		pods := &corev1.PodList{}
		err := o.live.List(ctx, pods, client.InNamespace(job.Namespace), client.Limit(1),
			client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)})
		if err != nil {
			return nil, err
		}
		tests[job.UID] = observed.LoadTestOf(pods.Items)
	}
	return tests, nil
}
