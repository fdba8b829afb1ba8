// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

var _ = Describe("Trouble that a person can mend", func() {
	It("is said and outlasted when the flags are missing", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "early")
		created(ctx, fc)
		expectCondition(ctx, fc, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonConfigMapNotFound)
		Expect(messageOf(fc, v1alpha1.ConditionReady)).To(ContainSubstring("ConfigMap flags does not exist: create it"))
		expectCondition(ctx, fc, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
		Expect(podsOf(ctx, fc, v1alpha1.ComponentService)).To(BeEmpty(), "pods that could not serve are not started")

		created(ctx, someFlags(namespace))
		expectReady(ctx, fc)
	})

	It("is said, and nothing is taken over, when a name is taken", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		theirs := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "taken"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}
		fc := aFlagCache(namespace, "taken")
		created(ctx, someFlags(namespace), theirs, fc)
		asMade := theirs.ResourceVersion
		expectCondition(ctx, fc, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
		Expect(messageOf(fc, v1alpha1.ConditionStalled)).To(ContainSubstring("Service taken"))
		Expect(read(ctx, theirs).ResourceVersion).To(Equal(asMade))

		By("removing it, and asking for another look")
		Expect(local.Client.Delete(ctx, theirs)).To(Succeed())
		kubectl(ctx, "annotate", "flagcache", "taken", "--namespace", namespace, v1alpha1.AnnotationReconcileAt+"=now")
		expectReady(ctx, fc)
	})
})

var _ = Describe("A namespace that is deleted", func() {
	It("goes with the FlagCaches in it", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "doomed")
		created(ctx, someFlags(namespace), fc)
		expectCondition(ctx, fc, v1alpha1.ConditionCacheProvisioned, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
		doomed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		Expect(local.Client.Delete(ctx, doomed)).To(Succeed())
		expectGone(ctx, doomed)
	})
})
