// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

var _ = Describe("Pods that do not run", func() {
	It("are explained by what Kubernetes reports about them", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.settle(ctx)
		s.Clock.(*clocktesting.FakePassiveClock).SetTime(time.Now().Add(10 * time.Second))

		By("rejecting the pod of Redis, which only an event reports")
		redis := get(ctx, s, &appsv1.StatefulSet{}, "demo-redis")
		s.create(ctx, &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: s.namespace, Name: "demo-redis.1"},
			InvolvedObject: corev1.ObjectReference{Kind: "StatefulSet", Namespace: s.namespace, Name: "demo-redis", UID: redis.UID},
			Reason:         "FailedCreate",
			Message:        `create Pod demo-redis-0 in StatefulSet demo-redis failed error: admission webhook "deny.example" denied the request: no`,
			LastTimestamp:  metav1.Now(),
		})
		s.settle(ctx)
		c := s.expect(ctx, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, "FailedCreate")
		Expect(c.Message).To(ContainSubstring(`pods cannot be created: admission webhook "deny.example" denied the request: no. Change`))

		By("ignoring a pod that only has the labels of Redis")
		s.pod(ctx, "an-impostor", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "any", UID: "any"}, redis.Spec.Template.Labels, corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "says an impostor",
		}}})
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, "FailedCreate")
		Expect(c.Message).NotTo(ContainSubstring("impostor"))

		By("not finding a node for the pod of Redis")
		s.pod(ctx, "demo-redis-0", ownedBy("apps/v1", "StatefulSet", redis), redis.Spec.Template.Labels, corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient cpu.",
		}}})
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, "Unschedulable")

		By("not pulling the image of the first revision")
		deployments := &appsv1.DeploymentList{}
		Expect(k8s.List(ctx, deployments, client.InNamespace(s.namespace))).To(Succeed())
		Expect(deployments.Items).To(HaveLen(1))
		first := deployments.Items[0]
		replicas := &metav1.ObjectMeta{Name: first.Name + "-7d9f", UID: "a-replica-set"}
		s.pod(ctx, "first", ownedBy("apps/v1", "ReplicaSet", replicas), first.Spec.Template.Labels, corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "flag-service", Image: "flag-service:v1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}},
		}}})
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionServiceAvailable, metav1.ConditionFalse, "ImagePullBackOff")
		Expect(c.Message).To(ContainSubstring("flag-service:v1"))
		Expect(s.reconcile(ctx).RequeueAfter).To(Equal(30*time.Second), "pods are not watched")
	})
})

var _ = Describe("An autoscaler of somebody else", func() {
	It("keeps the number of replicas that it chose, until it is deleted", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		name := "demo-" + get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable
		scale := func(replicas int32) {
			edit(ctx, s, &appsv1.Deployment{}, name, func(d *appsv1.Deployment) { d.Spec.Replicas = &replicas })
			s.podsAvailable(ctx)
			s.settle(ctx)
		}
		theirs := &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "theirs"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}, MaxReplicas: 9,
			},
		}
		s.create(ctx, theirs)
		scale(5)
		Expect(get(ctx, s, &appsv1.Deployment{}, name).Spec.Replicas).To(HaveValue(BeEquivalentTo(5)))
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Eventually(s.Events.(*events.FakeRecorder).Events).Should(Receive(ContainSubstring("HorizontalPodAutoscaler theirs scales Deployment " + name)))

		By("deleting it: the replicas are those of the spec")
		Expect(k8s.Delete(ctx, theirs)).To(Succeed())
		scale(4)
		Expect(get(ctx, s, &appsv1.Deployment{}, name).Spec.Replicas).To(HaveValue(BeEquivalentTo(2)))
	})
})

// pod creates a pod with a status.
func (s *stage) pod(ctx context.Context, name string, owner metav1.OwnerReference, labels map[string]string, status corev1.PodStatus) {
	GinkgoHelper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, Labels: labels, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "any", Image: "any"}}},
	}
	s.create(ctx, pod)
	pod.Status = status
	Expect(k8s.Status().Update(ctx, pod)).To(Succeed())
}

// ownedBy is the reference of a pod to its controller.
func ownedBy(apiVersion, kind string, o metav1.Object) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: o.GetName(), UID: o.GetUID(), Controller: ptr.To(true)}
}
