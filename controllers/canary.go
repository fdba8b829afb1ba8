// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// podPatience is how long pods may take to start before the reason is read.
const podPatience = 5 * time.Second

// podFailures returns what keeps the pods of revisions from running, by revision. Pods
// are read from the API server, and only of revisions that are not stable, and of one that
// has not been available for a while: a cache of all pods would cost memory for a rare
// need.
func (o *observer) podFailures(ctx context.Context, snapshot observed.Snapshot) (map[string]observed.PodFailure, error) {
	fc, failures := snapshot.FlagCache, map[string]observed.PodFailure{}
	stable := observed.NewIndex(snapshot).Stable
	for _, d := range owned[*appsv1.Deployment](fc, snapshot.Children) {
		revision, _ := observed.RevisionOf(fc, d.Name)
		candidate := stable != "" && revision != stable
		if !candidate && (observed.Available(d) || !o.overdue(d.CreationTimestamp, progressedAt(d))) {
			continue
		}
		pods, err := o.pods(ctx, fc, ofDeployment(d), client.MatchingLabels{
			v1alpha1.LabelName: fc.Name, v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelRevision: revision,
		})
		if err != nil {
			return nil, err
		}
		if failure := observed.PodFailureOf(pods, candidate); failure.Reason != "" {
			failures[revision] = failure
		}
	}
	return failures, nil
}

// autoscalers returns the HorizontalPodAutoscalers of others that scale the Deployments of
// revisions, by revision. They are read from the API server, and only while the stable
// revision has another size than the spec requests.
func (o *observer) autoscalers(ctx context.Context, snapshot observed.Snapshot) (map[string]string, error) {
	fc, x := snapshot.FlagCache, observed.NewIndex(snapshot)
	if !plan.ScaledByOthers(x) {
		return nil, nil
	}
	list := &autoscalingv2.HorizontalPodAutoscalerList{}
	if err := o.listLive(ctx, list, client.InNamespace(fc.Namespace), client.Limit(maxPodsRead)); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for i := range list.Items {
		autoscaler, target := &list.Items[i], list.Items[i].Spec.ScaleTargetRef
		revision, ok := observed.RevisionOf(fc, target.Name)
		if ok && target.Kind == "Deployment" && x.Revisions[revision] != nil && autoscaler.DeletionTimestamp == nil && !metav1.IsControlledBy(autoscaler, fc) {
			found[revision] = autoscaler.Name
		}
	}
	return found, nil
}

// cacheFailure returns what keeps the pod of an in-cluster cache from running.
func (o *observer) cacheFailure(ctx context.Context, fc *v1alpha1.FlagCache, children []observed.Object) (observed.PodFailure, error) {
	for _, set := range owned[*appsv1.StatefulSet](fc, children) {
		if set.Status.ReadyReplicas > 0 || !o.overdue(set.CreationTimestamp) {
			continue
		}
		pods, err := o.pods(ctx, fc, controlledBy(set), client.MatchingLabels{v1alpha1.LabelName: fc.Name, v1alpha1.LabelComponent: v1alpha1.ComponentCache})
		if err != nil {
			return observed.PodFailure{}, err
		}
		if len(pods) == 0 {
			return o.creationFailure(ctx, set)
		}
		return observed.PodFailureOf(pods, false), nil
	}
	return observed.PodFailure{}, nil
}

// loadTests returns what the pods of load tests do, by the UID of the Job. They are read
// only while there is a Job. Whether the Job finished does not matter: it does not while
// the proxy of a service mesh runs in its pod.
func (o *observer) loadTests(ctx context.Context, fc *v1alpha1.FlagCache, children []observed.Object) (map[types.UID]observed.LoadTest, error) {
	tests := map[types.UID]observed.LoadTest{}
	for _, job := range owned[*batchv1.Job](fc, children) {
		pods, err := o.pods(ctx, fc, controlledBy(job), client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)})
		if err != nil {
			return nil, err
		}
		test := observed.LoadTestOf(pods)
		if len(pods) == 0 && o.overdue(job.CreationTimestamp) {
			if test.Failure, err = o.creationFailure(ctx, job); err != nil {
				return nil, err
			}
		}
		tests[job.UID] = test
	}
	return tests, nil
}

// owned returns the children of a type that are not being deleted.
func owned[T observed.Object](fc *v1alpha1.FlagCache, children []observed.Object) []T {
	var all []T
	for _, child := range children {
		if o, ok := child.(T); ok && metav1.IsControlledBy(o, fc) && o.GetDeletionTimestamp() == nil {
			all = append(all, o)
		}
	}
	return all
}

// overdue reports whether the last of some times is longer ago than pods need to start.
func (o *observer) overdue(since ...metav1.Time) bool {
	for _, at := range since {
		if o.now.Sub(at.Time) <= podPatience {
			return false
		}
	}
	return true
}

// progressedAt returns when a Deployment last made progress, zero if that is unknown.
func progressedAt(d *appsv1.Deployment) metav1.Time {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return c.LastUpdateTime
		}
	}
	return metav1.Time{}
}

// pods lists the pods with some labels that a controller created. The labels do not prove
// it: whoever may create pods can set those of a load test, and report what they like.
func (o *observer) pods(ctx context.Context, fc *v1alpha1.FlagCache, created func(*corev1.Pod) bool, selected client.MatchingLabels) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	if err := o.listLive(ctx, pods, client.InNamespace(fc.Namespace), client.Limit(maxPodsRead), selected); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return !created(&pod) }), nil
}

// controlledBy matches the pods of a controller, by its UID.
func controlledBy(owner metav1.Object) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool { return metav1.IsControlledBy(pod, owner) }
}

// ofDeployment matches the pods of a Deployment's ReplicaSets, by their names: the
// operator does not read ReplicaSets.
func ofDeployment(d *appsv1.Deployment) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		owner := metav1.GetControllerOf(pod)
		return owner != nil && owner.APIVersion == appsv1.SchemeGroupVersion.String() && owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, d.Name+"-")
	}
}

// creationFailure returns why the pods of an object cannot be created, for the kinds that
// report this in events only.
func (o *observer) creationFailure(ctx context.Context, owner client.Object) (observed.PodFailure, error) {
	events := &corev1.EventList{}
	err := o.listLive(ctx, events, client.InNamespace(owner.GetNamespace()), client.Limit(maxPodsRead),
		client.MatchingFields{"involvedObject.uid": string(owner.GetUID()), "reason": observed.FailedCreate})
	if apierrors.IsForbidden(err) {
		return observed.PodFailure{}, nil // events only explain
	}
	if err != nil {
		return observed.PodFailure{}, err
	}
	return observed.CreationFailureOf(events.Items), nil
}

// listLive lists objects from the API server.
func (o *observer) listLive(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return o.live.List(ctx, list, options...)
}
