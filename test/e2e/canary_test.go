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

var _ = Describe("A canary", Ordered, Label("canary"), func() {
	var (
		fc   *v1alpha1.FlagCache
		load *canaryLoad
	)

	BeforeAll(func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc = aFlagCache(namespace, "shop", triedBy(shortTrial))
		created(ctx, someFlags(namespace), fc)
		expectReady(ctx, fc)
		load = startCanaryLoad(ctx, fc)
	})

	It("promotes a good release", func(ctx context.Context) {
		stable := revisionOf(ctx, fc)
		changeRelease(ctx, fc, "none", shortTrial)
		Eventually(ctx, func() string { return revisionOf(ctx, fc) }).WithTimeout(rolledOut).ShouldNot(Equal(stable))
		expectReady(ctx, fc)
	}, SpecTimeout(rolledOut))

	DescribeTable("rolls back a release that", func(ctx context.Context, fault string, trial v1alpha1.CanarySpec, reason string, bad badAnswers) {
		stable := revisionOf(ctx, fc)
		changeRelease(ctx, fc, fault, trial)
		expectRolledBack(ctx, fc, stable, reason, bad)
	},
		Entry("answers 2 % with 5xx", "errors", longTrial, "errorRate", failedHandOns, SpecTimeout(rolledOut)),
		Entry("is slow", "slow", withDefaultLatencies(longTrial), "latencyP", slowHandOns, SpecTimeout(rolledOut)),
		Entry("crashes", "crash", longTrial, "", failedHandOns, SpecTimeout(rolledOut)),
		Entry("cannot use the cache", "nocache", longTrial, "cacheHitRate", failedLookups, SpecTimeout(rolledOut)),
	)

	It("affected no client", func(ctx context.Context) {
		report := load.expectNoClientAffected()
		// Releases that crash, or cannot use the cache, are found before kubelets update the split.
		Expect(len(report.Revisions)).To(BeNumerically(">=", 4), "stable revisions and candidates: %v", report.Revisions)
	})
})

var _ = Describe("A canary of a connection", Ordered, Label("canary"), func() {
	It("rolls back a bad password", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		created(ctx, externalRedis(namespace)...)
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}},
			StringData: map[string]string{"host": "shared." + namespace + ".svc", "port": "6379", "password": rightPassword},
		}
		fc := aFlagCache(namespace, "outside", triedBy(longTrial), func(spec *v1alpha1.FlagCacheSpec) {
			spec.Cache.Type = v1alpha1.CacheExternal
			spec.Cache.External = &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "shared"}}
		})
		created(ctx, secret, fc)
		expectReady(ctx, fc)
		load := startCanaryLoad(ctx, fc)

		stable := revisionOf(ctx, fc)
		changed(ctx, secret, func(s *corev1.Secret) { s.Data["password"] = []byte(wrongPassword) })
		expectRolledBack(ctx, fc, stable, "cacheHitRate", failedLookups)
		load.expectNoClientAffected()
	}, SpecTimeout(2*rolledOut))
})
