// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

var _ = Describe("Two operators", func() {
	var s *stage
	var other *controllers.Reconciler

	// otherReconciles reconciles by the other operator, and returns the events that it
	// recorded.
	otherReconciles := func(ctx context.Context) (recorded []string) {
		GinkgoHelper()
		s.writes = nil
		_, err := other.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}})
		Expect(err).NotTo(HaveOccurred())
		for len(other.Events.(*events.FakeRecorder).Events) > 0 {
			recorded = append(recorded, <-other.Events.(*events.FakeRecorder).Events)
		}
		return recorded
	}

	BeforeEach(func(ctx context.Context) {
		s = newStage(ctx)
		other = &controllers.Reconciler{
			Client: s.Client, Live: s.Live, FlagFiles: s.FlagFiles, Prober: newStage(ctx).prober, Sampler: s.sampler,
			Events: events.NewFakeRecorder(100), Clock: s.Clock, Operator: observed.Operator{Namespace: "team", FlagServiceImage: "flag-service:v2"},
		}
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
	})

	It("do not change a FlagCache in turns: the first claims it, the other one says so", func(ctx context.Context) {
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Operator).To(Equal("flagcache-system"))
		Expect(otherReconciles(ctx)).To(ConsistOf(And(
			ContainSubstring("The operator in namespace flagcache-system handles this FlagCache"),
			ContainSubstring("flagcache.dev/operator=team"))))
		Expect(s.writes).To(BeEmpty())
		Expect(otherReconciles(ctx)).To(BeEmpty(), "it is said once")
		s.settle(ctx)
	})

	It("hand a FlagCache over by annotation", func(ctx context.Context) {
		image := func() string {
			revision := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions
			return get(ctx, s, &appsv1.Deployment{}, "demo-"+revision.Stable).Spec.Template.Spec.Containers[0].Image
		}
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationOperator: "team"}
		})
		s.reconcile(ctx)
		Expect(s.writes).To(BeEmpty(), "the operator that had it leaves it alone at once")
		for range 20 {
			otherReconciles(ctx)
			s.podsAvailable(ctx)
		}
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Operator).To(Equal("team"))
		Expect(image()).To(Equal("flag-service:v2"))
		s.reconcile(ctx)
		Expect(s.writes).To(BeEmpty())
	})
})

var _ = Describe("An annotation whose value is no revision", func() {
	It("gets one event", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		recorded := s.Events.(*events.FakeRecorder).Events
		for len(recorded) > 0 {
			<-recorded
		}
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationPromote: "true"}
		})
		s.settle(ctx)
		s.settle(ctx)
		Expect(recorded).To(Receive(ContainSubstring(`flagcache.dev/promote has no effect, because "true" is no revision`)))
		Expect(recorded).NotTo(Receive())
	})
})
