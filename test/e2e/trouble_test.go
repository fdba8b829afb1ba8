// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

var _ = Describe("A mistake of the user", func() {
	It("is reported, and corrected by creating the missing flags", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "early")
		created(ctx, fc)
		expectCondition(ctx, fc, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonConfigMapNotFound)
		Expect(messageOf(fc, v1alpha1.ConditionReady)).To(ContainSubstring("ConfigMap flags does not exist: create it"))
		expectCondition(ctx, fc, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
		Expect(podsOf(ctx, fc, v1alpha1.ComponentService)).To(BeEmpty(), "pods without flags are not started")

		created(ctx, someFlags(namespace))
		expectReady(ctx, fc)
	})

	It("is reported by one event that is counted, when several annotations have it", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "annotated")
		fc.Annotations = map[string]string{v1alpha1.AnnotationAbort: "deadbeef", v1alpha1.AnnotationPause: "deadbeef"}
		created(ctx, someFlags(namespace), fc)
		Eventually(ctx, func(ctx context.Context) ([]eventsv1.Event, error) {
			events := &eventsv1.EventList{}
			err := local.Client.List(ctx, events, client.InNamespace(namespace))
			return events.Items, err
		}).WithTimeout(soon).Should(ContainElement(And(
			HaveField("Reason", v1alpha1.ReasonUnknownRevision), HaveField("Series", HaveField("Count", BeNumerically(">=", 2))),
		)))
	})

	It("is reported, and nothing is adopted, when a name is in use", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		theirs := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "taken"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}
		fc := aFlagCache(namespace, "taken")
		created(ctx, someFlags(namespace), theirs, fc)
		before := theirs.ResourceVersion
		expectCondition(ctx, fc, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
		Expect(messageOf(fc, v1alpha1.ConditionStalled)).To(ContainSubstring("Service taken"))
		Expect(read(ctx, theirs).ResourceVersion).To(Equal(before))

		By("deleting the Service, and requesting a reconcile")
		Expect(local.Client.Delete(ctx, theirs)).To(Succeed())
		kubectl(ctx, "annotate", "flagcache", "taken", "--namespace", namespace, v1alpha1.AnnotationReconcileAt+"=now")
		expectReady(ctx, fc)
	})
})

var _ = Describe("A namespace that is deleted", func() {
	It("is deleted together with its FlagCaches", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "doomed")
		created(ctx, someFlags(namespace), fc)
		expectCondition(ctx, fc, v1alpha1.ConditionCacheProvisioned, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
		doomed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		Expect(local.Client.Delete(ctx, doomed)).To(Succeed())
		expectDeleted(ctx, doomed)
	})
})

var _ = Describe("An immutable ConfigMap that is deleted and created again", func() {
	It("is reported while pods serve what it had before", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		immutable := func(name, colour string) *corev1.ConfigMap {
			flags := someFlags(namespace)
			flags.Name, flags.Immutable, flags.Data["flags.json"] = name, ptr.To(true), flagsJSON(colour)
			return flags
		}
		fc := aFlagCache(namespace, "frozen")
		before := immutable("flags", "red")
		created(ctx, before, fc)
		expectReady(ctx, fc)

		Expect(local.Client.Delete(ctx, before)).To(Succeed())
		created(ctx, immutable("flags", "blue"))
		expectCondition(ctx, fc, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonPodsBehind)
		for _, pod := range podsOf(ctx, fc, v1alpha1.ComponentService) {
			Expect(messageOf(fc, v1alpha1.ConditionFlagsValid)).To(ContainSubstring(pod.Name))
		}
		expectEveryPodServes(ctx, fc, "colour", "red")

		By("following the advice: another name")
		created(ctx, immutable("flags-2", "blue"))
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Flags.ConfigMap.Name = "flags-2" })
		expectReady(ctx, fc)
		expectEveryPodServes(ctx, fc, "colour", "blue")
	})
})
