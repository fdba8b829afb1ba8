// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// sample has the sampler follow the plan.
func (r *Reconciler) sample(fc *v1alpha1.FlagCache, target *plan.EvidenceTarget) {
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

// evidence returns the sampler's last sample of a FlagCache's canary.
func (r *Reconciler) evidence(fc *v1alpha1.FlagCache) canary.Evidence {
	sample, _ := r.Sampler.Last(client.ObjectKeyFromObject(fc))
	return sample
}

// podTroubles look at the pods of revisions that do not serve. They are asked of
// the API server and only while there are such revisions: a cache of all pods
// would cost memory for something that is rare.
func (r *Reconciler) podTroubles(ctx context.Context, fc *v1alpha1.FlagCache, children []observed.Object) (map[string]observed.PodTrouble, error) {
	troubles := map[string]observed.PodTrouble{}
	for _, revision := range waitingRevisions(fc, children) {
		pods := &corev1.PodList{}
		err := r.Live.List(ctx, pods, client.InNamespace(fc.Namespace), client.Limit(mostPodsLookedAt), client.MatchingLabels{
			v1alpha1.LabelName: fc.Name, v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelRevision: revision,
		})
		if err != nil {
			return nil, err
		}
		for i := range pods.Items {
			if trouble := observed.TroubleOf(&pods.Items[i]); trouble.Reason != "" {
				troubles[revision] = trouble
				break
			}
		}
	}
	return troubles, nil
}

// mostPodsLookedAt bounds a look at a revision's pods.
const mostPodsLookedAt = 200

// waitingRevisions have a Deployment and are not what the Service selects.
func waitingRevisions(fc *v1alpha1.FlagCache, children []observed.Object) []string {
	serves := ""
	var revisions []string
	for _, child := range children {
		switch o := child.(type) {
		case *corev1.Service:
			if o.Name == observed.ServiceName(fc) {
				serves = o.Spec.Selector[v1alpha1.LabelRevision]
			}
		case *appsv1.Deployment:
			if metav1.IsControlledBy(o, fc) && o.DeletionTimestamp == nil {
				revisions = append(revisions, o.Labels[v1alpha1.LabelRevision])
			}
		}
	}
	var waiting []string
	for _, revision := range revisions {
		if serves != "" && revision != serves {
			waiting = append(waiting, revision)
		}
	}
	return waiting
}
