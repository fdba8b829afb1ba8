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

var _ = Describe("A ConfigMap of flags", func() {
	It("may be immutable, made again, renamed and broken, without new pods or failed evaluations", func(ctx context.Context) {
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
		revision, number := revisionOf(ctx, fc), read(ctx, fc).Status.Flags.Number
		expectNoneFailed := withTraffic(ctx, fc, "colour")

		By("deleting it")
		Expect(local.Client.Delete(ctx, before)).To(Succeed())
		expectCondition(ctx, fc, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonConfigMapNotFound)
		expectEveryPodServes(ctx, fc, "colour", "red")

		By("creating it again with other flags")
		again := immutable("flags", "blue")
		created(ctx, again)
		expectReady(ctx, fc)
		expectEveryPodServes(ctx, fc, "colour", "blue")

		By("giving it another name, as kustomize does for each change")
		created(ctx, immutable("flags-2", "red"))
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Flags.ConfigMap.Name = "flags-2" })
		Expect(local.Client.Delete(ctx, again)).To(Succeed())
		expectEveryPodServes(ctx, fc, "colour", "red")

		By("giving it a name whose flags cannot be used")
		broken := immutable("flags-3", "blue")
		broken.Data["flags.json"] = "{"
		created(ctx, broken)
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Flags.ConfigMap.Name = "flags-3" })
		expectCondition(ctx, fc, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		expectEveryPodServes(ctx, fc, "colour", "red")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Flags.ConfigMap.Name = "flags-2" })
		expectReady(ctx, fc)
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			status := read(ctx, fc).Status.Flags
			g.Expect(status.Number).To(Equal(number + 2))
			g.Expect(status.Pods).To(BeNumerically(">", 0))
			g.Expect(status.ServingPods).To(HaveValue(Equal(status.Pods)))
		}).Should(Succeed())
		Expect(revisionOf(ctx, fc)).To(Equal(revision))
		Expect(deploymentsOf(ctx, fc)).To(HaveLen(1), "no change of flags makes new pods")
		expectNoneFailed()

		By("starting pods while its flags cannot be used")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Flags.ConfigMap.Name = "flags-3" })
		expectCondition(ctx, fc, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		for _, pod := range podsOf(ctx, fc, v1alpha1.ComponentService) {
			Expect(local.Client.Delete(ctx, &pod)).To(Succeed())
		}
		expectEveryPodServes(ctx, fc, "colour", "red")
	})
})
