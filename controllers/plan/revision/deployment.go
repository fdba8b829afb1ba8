// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// DefaultReplicas is the number of replicas with which one pod may be rescheduled
// without an interruption.
const DefaultReplicas = 2

// ProgressDeadline is how long a revision may take to become available, in seconds.
const ProgressDeadline = 300

// FullSize is the number of replicas that carries all traffic. With autoscaling it is
// what the autoscaler made of the serving revision, nil if there is none, so that a new
// one takes over at the same size; so it is if an autoscaler of somebody else scales it.
func FullSize(fc *v1alpha1.FlagCache, serving *appsv1.Deployment, foreign bool) int32 {
	auto := fc.Spec.Service.Autoscaling
	if auto == nil {
		replicas := ptr.Deref(fc.Spec.Service.Replicas, DefaultReplicas)
		if foreign {
			return ScaledSize(serving, replicas)
		}
		return replicas
	}
	replicas := auto.MinReplicas
	if serving != nil {
		replicas = ptr.Deref(serving.Spec.Replicas, replicas)
	}
	return min(max(replicas, auto.MinReplicas), auto.MaxReplicas)
}

// ScaledSize is the size that an autoscaler of somebody else gave to a Deployment, or the
// given one where it gave none: it does not scale what has no replicas.
func ScaledSize(d *appsv1.Deployment, replicas int32) int32 {
	if d == nil || ptr.Deref(d.Spec.Replicas, 0) == 0 {
		return replicas
	}
	return *d.Spec.Replicas
}

// Deployment runs the pods of one revision.
func Deployment(fc *v1alpha1.FlagCache, revision string, template corev1.PodTemplateSpec, replicas int32) *appsv1.Deployment {
	meta := observed.ChildMeta(fc, observed.RevisionName(fc, revision), v1alpha1.ComponentService)
	meta.Labels[v1alpha1.LabelRevision] = revision
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas:                ptr.To(replicas),
			RevisionHistoryLimit:    ptr.To[int32](1),
			ProgressDeadlineSeconds: ptr.To[int32](ProgressDeadline),
			Strategy:                appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType},
			Selector:                &metav1.LabelSelector{MatchLabels: observed.RevisionLabels(fc, revision)},
			Template:                template,
		},
	}
}

// DisruptionBudget lets one pod of a revision at a time be evicted. Pods of others do
// not count: those of a release that does not start would keep nodes from being drained.
func DisruptionBudget(fc *v1alpha1.FlagCache, revision string) *policyv1.PodDisruptionBudget {
	meta := observed.ChildMeta(fc, observed.RevisionName(fc, revision), v1alpha1.ComponentService)
	meta.Labels[v1alpha1.LabelRevision] = revision
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: meta,
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             ptr.To(intstr.FromInt32(1)),
			Selector:                   &metav1.LabelSelector{MatchLabels: observed.RevisionLabels(fc, revision)},
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

// Autoscaler scales the Deployment of a revision by CPU utilization.
func Autoscaler(fc *v1alpha1.FlagCache, revision string) *autoscalingv2.HorizontalPodAutoscaler {
	auto := fc.Spec.Service.Autoscaling
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
				APIVersion: "apps/v1", Kind: "Deployment", Name: observed.RevisionName(fc, revision),
			},
			MinReplicas: ptr.To(auto.MinReplicas),
			MaxReplicas: auto.MaxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceCPU,
					Target: autoscalingv2.MetricTarget{
						Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(auto.TargetCPUPercent),
					},
				},
			}},
		},
	}
}

// Available reports whether at least so many replicas of a Deployment, and all that it
// desires, are available, all of its current template.
func Available(d *appsv1.Deployment, replicas int32) bool {
	return d != nil &&
		d.Status.ObservedGeneration >= d.Generation &&
		d.Status.UpdatedReplicas >= replicas &&
		d.Status.AvailableReplicas >= max(replicas, ptr.Deref(d.Spec.Replicas, 1))
}

// DeadlineExceeded reports whether a Deployment exceeded its progress deadline.
func DeadlineExceeded(d *appsv1.Deployment) bool {
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
