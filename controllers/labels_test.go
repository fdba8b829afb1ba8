// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// labelPolicy sets a label of every ConfigMap that is written, as an admission policy does.
func (s *stage) labelPolicy(label, value string) {
	set := func(o client.Object) {
		if _, ok := o.(*corev1.ConfigMap); ok {
			labels := o.GetLabels()
			labels[label] = value
			o.SetLabels(labels)
		}
	}
	funcs := s.countWrites()
	create, patch := funcs.Create, funcs.Patch
	funcs.Create = func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		set(o)
		return create(ctx, c, o, opts...)
	}
	funcs.Patch = func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if err := patch(ctx, c, o, p, opts...); err != nil {
			return err
		}
		if _, ok := o.(*corev1.ConfigMap); !ok {
			return nil
		}
		set(o)
		return c.Update(ctx, o)
	}
	s.Client = interceptor.NewClient(k8s, funcs)
}

var _ = Describe("A policy that changes labels", func() {
	var s *stage

	BeforeEach(func(ctx context.Context) {
		s = newStage(ctx)
		s.create(ctx, s.aFlagCache())
	})

	It("may own the label that says who manages an object", func(ctx context.Context) {
		s.labelPolicy(v1alpha1.LabelManagedBy, "platform")
		s.ready(ctx)
		Expect(get(ctx, s, &corev1.ConfigMap{}, "demo-client").Labels).To(HaveKeyWithValue(v1alpha1.LabelManagedBy, "platform"))
		Expect(s.Events.(*events.FakeRecorder).Events).To(Receive(ContainSubstring("ConfigMap demo-client: label app.kubernetes.io/managed-by")))

		edit(ctx, s, &corev1.ConfigMap{}, "demo-client", func(o *corev1.ConfigMap) { o.Data["OFREP_ENDPOINT"] = "http://elsewhere" })
		s.settle(ctx)
		Expect(get(ctx, s, &corev1.ConfigMap{}, "demo-client").Data["OFREP_ENDPOINT"]).NotTo(Equal("http://elsewhere"))
	})

	It("is reported if the operator cannot find its children any more", func(ctx context.Context) {
		s.labelPolicy(v1alpha1.LabelName, "other")
		for range 5 {
			Expect(s.reconcile(ctx).RequeueAfter).To(BeNumerically("<=", time.Minute))
		}
		c := s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonLabelChanged)
		Expect(c.Message).To(Equal(`ConfigMap demo-client: label flagcache.dev/name is "other" after it was written: exclude it from the admission policy or webhook that changes it`))
	})
})
