// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/policy"
)

var _ = Describe("The administrator's policy", func() {
	It("refuses what a FlagCache requests, changes nothing, and permits it later", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Service.PodAnnotations = map[string]v1alpha1.AnnotationValue{"iam.amazonaws.com/role": "admin"}
		})
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotPermitted)
		s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNotPermitted)
		s.expect(ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		s.Policy.Store(&policy.Policy{Pods: policy.Pods{AnnotationPrefixes: []string{"iam.amazonaws.com/"}}})
		s.ready(ctx)
	})

	It("limits what the FlagCaches of a namespace cost together", func(ctx context.Context) {
		s := newStage(ctx)
		s.Policy.Store(&policy.Policy{ElastiCache: []policy.ElastiCache{{Namespaces: []string{"*"}, MaxNamespaceMonthlyUSD: ptr.To[int32](30)}}})
		cache := minimalSpec + "cache: {type: ElastiCache, elastiCache: {region: eu-west-1, nodeType: cache.t3.micro}}"
		s.create(ctx, s.manifest("demo", cache))
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonACKNotInstalled)

		other := s.manifest("other", cache)
		s.create(ctx, other)
		s.settle(ctx)
		ready := s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotPermitted)
		Expect(ready.Message).To(ContainSubstring("of the other FlagCaches of the namespace, and at most 30.00 are permitted together"))

		Expect(k8s.Delete(ctx, other)).To(Succeed())
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonACKNotInstalled)
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Conditions).NotTo(ContainElement(HaveField("Reason", v1alpha1.ReasonNotPermitted)))
	})
})
