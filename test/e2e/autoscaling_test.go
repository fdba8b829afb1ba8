// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

var _ = Describe("Autoscaling", func() {
	It("leaves the number of replicas to the autoscaler", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "elastic", func(spec *v1alpha1.FlagCacheSpec) {
			spec.Service.Replicas = nil
			spec.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 3}
		})
		created(ctx, someFlags(namespace), fc)
		expectReady(ctx, fc)
		autoscaler := read(ctx, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "elastic"}})
		deployment := "elastic-" + revisionOf(ctx, fc)
		Expect(autoscaler.Spec.ScaleTargetRef.Name).To(Equal(deployment))

		By("editing it, the disruption budget and Redis")
		expectEditsUndone(ctx, fc, &autoscalingv2.HorizontalPodAutoscalerList{}, &policyv1.PodDisruptionBudgetList{}, &appsv1.StatefulSetList{})

		By("scaling as the autoscaler does")
		kubectl(ctx, "scale", "--namespace", namespace, "deployment", deployment, "--replicas=2")
		Eventually(ctx, func() int32 { return read(ctx, fc).Status.Service.ReadyReplicas }).Should(Equal(int32(2)))
		Consistently(ctx, func() int32 { return *deploymentsOf(ctx, fc)[0].Spec.Replicas }).
			WithTimeout(2*time.Second).Should(Equal(int32(2)), "the operator does not change it")

		By("setting a number of replicas instead")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			fc.Spec.Service.Replicas, fc.Spec.Service.Autoscaling = ptr.To[int32](1), nil
		})
		expectDeleted(ctx, autoscaler)
		expectReady(ctx, fc)
		Expect(read(ctx, fc).Status.Service.Replicas).To(Equal(int32(1)))
	})
})
