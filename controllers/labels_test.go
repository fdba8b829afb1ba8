// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
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
		Expect(s.Events.(*events.FakeRecorder).Events).To(Receive(ContainSubstring("ConfigMap demo-published-flags: label app.kubernetes.io/managed-by")))

		edit(ctx, s, &corev1.ConfigMap{}, "demo-client", func(o *corev1.ConfigMap) { o.Data["OFREP_ENDPOINT"] = "http://elsewhere" })
		s.settle(ctx)
		Expect(get(ctx, s, &corev1.ConfigMap{}, "demo-client").Data["OFREP_ENDPOINT"]).NotTo(Equal("http://elsewhere"))

		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(o *corev1.ConfigMap) { o.Data["flags.json"] = `{"flags":  {}}` })
		s.settle(ctx)
		document, _ := publishedFlags(ctx, s)
		Expect(document).To(Equal(`{"flags":  {}}`))
	})

	It("is reported if the operator cannot find its children any more", func(ctx context.Context) {
		s.labelPolicy(v1alpha1.LabelName, "other")
		for range 5 {
			Expect(s.reconcile(ctx).RequeueAfter).To(BeNumerically("<=", time.Minute))
		}
		c := s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonLabelChanged)
		Expect(c.Message).To(Equal(`ConfigMap demo-published-flags: label flagcache.dev/name is "other" after it was written: exclude it from the admission policy or webhook that changes it`))
	})
})

var _ = Describe("Secrets of a release that labelled its own as usable by FlagCaches", func() {
	var s *stage
	generations := func(ctx context.Context) map[string]int64 {
		all := map[string]int64{}
		for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}} {
			Expect(k8s.List(ctx, list, client.InNamespace(s.namespace))).To(Succeed())
			Expect(meta.EachListItem(list, func(o runtime.Object) error {
				all[fmt.Sprintf("%T %s", o, o.(client.Object).GetName())] = o.(client.Object).GetGeneration()
				return nil
			})).To(Succeed())
		}
		return all
	}
	// contents returns the data of the Secrets, and expects the label of consent on all of them or on none.
	contents := func(ctx context.Context, consent bool) map[string]map[string][]byte {
		GinkgoHelper()
		list := &corev1.SecretList{}
		Expect(k8s.List(ctx, list, client.InNamespace(s.namespace))).To(Succeed())
		all := map[string]map[string][]byte{}
		for _, secret := range list.Items {
			_, labelled := secret.Labels[v1alpha1.LabelAllow]
			Expect(labelled).To(Equal(consent), secret.Name)
			all[secret.Name] = secret.Data
		}
		return all
	}

	BeforeEach(func(ctx context.Context) {
		s = newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
	})

	It("are found, kept and relabelled, and no pod is replaced", func(ctx context.Context) {
		secrets, pods := contents(ctx, false), generations(ctx)
		Expect(secrets).To(HaveLen(4))
		for name := range secrets {
			secret := get(ctx, s, &corev1.Secret{}, name)
			secret.TypeMeta, secret.ManagedFields = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, nil
			secret.Labels[v1alpha1.LabelAllow] = v1alpha1.AllowTrue
			secret.Annotations[v1alpha1.AnnotationApplied] = "by the earlier release"
			applied := client.RawPatch(types.ApplyPatchType, []byte(observed.ToJSON(secret)))
			Expect(k8s.Patch(ctx, secret, applied, client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership)).To(Succeed())
		}
		Expect(contents(ctx, true)).To(Equal(secrets))

		s.settle(ctx)
		Expect(contents(ctx, false)).To(Equal(secrets))
		Expect(generations(ctx)).To(Equal(pods))
		Expect(s.history).NotTo(ContainElement(HavePrefix("delete")))
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("may be given the label again before a downgrade", func(ctx context.Context) {
		secrets := contents(ctx, false)
		for name := range secrets {
			edit(ctx, s, &corev1.Secret{}, name, func(secret *corev1.Secret) { secret.Labels[v1alpha1.LabelAllow] = v1alpha1.AllowTrue })
		}
		s.settle(ctx)
		Expect(contents(ctx, true)).To(Equal(secrets))
	})
})
