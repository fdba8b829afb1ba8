// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

var _ = Describe("Children that a deleted FlagCache left", func() {
	It("are taken back by an annotation, and those of others are not", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		stable := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable

		By("deleting the FlagCache as kubectl delete --cascade=orphan does, and creating it again")
		for _, list := range []client.ObjectList{
			&corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{}, &appsv1.StatefulSetList{},
			&appsv1.ControllerRevisionList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{},
		} {
			Expect(k8s.List(ctx, list, client.InNamespace(s.namespace), client.MatchingLabels{v1alpha1.LabelName: "demo"})).To(Succeed())
			Expect(meta.EachListItem(list, func(o runtime.Object) error {
				child := o.(client.Object)
				child.SetOwnerReferences(nil)
				return k8s.Update(ctx, child)
			})).To(Succeed())
		}
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Finalizers = nil })
		Expect(k8s.Delete(ctx, s.aFlagCache())).To(Succeed())
		s.create(ctx, s.aFlagCache())
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)

		By("replacing one by an object of somebody else that looks the same")
		service := get(ctx, s, &corev1.Service{}, "demo-redis")
		theirs := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "demo-redis", Labels: service.Labels, Annotations: service.Annotations},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}
		Expect(k8s.Delete(ctx, service)).To(Succeed())
		Expect(k8s.Create(ctx, theirs, client.FieldOwner("somebody"))).To(Succeed())
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationAdoptChildren: string(fc.UID)}
		})
		s.settle(ctx)
		c := s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)
		Expect(c.Message).To(And(ContainSubstring("Service demo-redis"), Not(ContainSubstring("Deployment"))))
		Expect(get(ctx, s, &corev1.Service{}, "demo-redis").Spec.Ports[0].Port).To(BeEquivalentTo(80))

		By("deleting that")
		Expect(k8s.Delete(ctx, theirs)).To(Succeed())
		s.settle(ctx)
		fc := get(ctx, s, &v1alpha1.FlagCache{}, "demo")
		Expect(fc.Status.Revisions.Stable).To(Equal(stable))
		Expect(metav1.IsControlledBy(get(ctx, s, &appsv1.Deployment{}, "demo-"+stable), fc)).To(BeTrue())
		s.ready(ctx)
	})
})
