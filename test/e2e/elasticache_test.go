// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// cloudRate is how many requests a second clients send while the cache changes.
const cloudRate = 200

// quickTrial passes a good release within seconds.
var quickTrial = v1alpha1.CanarySpec{
	Steps:           []v1alpha1.CanaryStep{{Weight: 50, Duration: metav1.Duration{Duration: 5 * time.Second}}},
	Metrics:         v1alpha1.MetricsSpec{Interval: metav1.Duration{Duration: time.Second}},
	Thresholds:      v1alpha1.ThresholdsSpec{CacheHitRate: "50%"},
	MinimumRequests: 200,
	ScaleDownDelay:  metav1.Duration{Duration: time.Second},
}

// ACK and AWS are played by hack/ackplayer, the servers of Redis are real.
var _ = Describe("A FlagCache in ElastiCache", func() {
	It("lives through all that happens to its cache, and its clients notice nothing", func(ctx context.Context) {
		Expect(local.DeployACKPlayer(ctx)).To(Succeed())
		Expect(local.TrustACKPlayer(ctx)).To(Succeed())
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		before := inventory(ctx, namespace)
		fc := aFlagCache(namespace, "cloud", inRedis)

		By("applying it")
		began := time.Now()
		created(ctx, fc)
		expectReady(ctx, fc)
		AddReportEntry("From apply to Ready", time.Since(began).Round(100*time.Millisecond).String(), ReportEntryVisibilityAlways)
		Expect(cloudGroups(ctx)).To(HaveLen(1))
		load := startLoad(ctx, fmt.Sprintf("%s.%s.svc:80", fc.Name, fc.Namespace), cloudRate)

		By("failing its cache over")
		Expect(local.OrderACKPlayer(ctx, "/failover?id="+cloudGroups(ctx)[0])).To(Succeed())

		By("rotating its token, with the operator killed when the new one is made")
		used, revision := passwordOf(ctx, fc), revisionOf(ctx, fc)
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			metav1.SetMetaDataAnnotation(&fc.ObjectMeta, v1alpha1.AnnotationRotateToken, "please")
		})
		Eventually(ctx, func(ctx context.Context) []string { return tokensOf(ctx, fc) }).WithTimeout(soon).ShouldNot(ContainElement(used))
		killOperator()
		Expect(passwordOf(ctx, fc)).To(Equal(used), "it was killed in time")
		Eventually(ctx, func(ctx context.Context) string { return passwordOf(ctx, fc) }).WithTimeout(soon).ShouldNot(Equal(used))
		expectReady(ctx, fc)
		Expect(tokensOf(ctx, fc)).To(ConsistOf(passwordOf(ctx, fc)))
		Expect(revisionOf(ctx, fc)).NotTo(Equal(revision))

		By("replacing its cache by one of another engine, with the operator killed when both are there")
		used, revision = passwordOf(ctx, fc), revisionOf(ctx, fc)
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			fc.Spec.Canary = &quickTrial
			fc.Spec.Cache.ElastiCache.Engine, fc.Spec.Cache.ElastiCache.EngineVersion = v1alpha1.EngineValkey, "8.0"
		})
		Eventually(ctx, cloudGroups).WithTimeout(soon).Should(HaveLen(2))
		killOperator()
		Expect(revisionOf(ctx, fc)).To(Equal(revision), "it was killed in time")
		Eventually(ctx, func(ctx context.Context) string { return revisionOf(ctx, fc) }).WithTimeout(rolledOut).ShouldNot(Equal(revision))
		Eventually(ctx, func(ctx context.Context) string { return passwordOf(ctx, fc) }).WithTimeout(soon).ShouldNot(Equal(used))
		Eventually(ctx, cloudGroups).WithTimeout(soon).Should(HaveLen(1), "the old cache is to go")
		expectReady(ctx, fc)
		load.expectNothingNoticed()

		By("deleting it")
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectGone(ctx, fc)
		expectNothingLeft(ctx, namespace, before)
		Expect(cloudGroups(ctx)).To(BeEmpty())
	})
})

// inRedis has a cache in ElastiCache of the engine that it begins with.
func inRedis(spec *v1alpha1.FlagCacheSpec) {
	spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheElastiCache, ElastiCache: &v1alpha1.ElastiCacheSpec{
		Engine: v1alpha1.EngineRedis, EngineVersion: "7.1", Replicas: 1,
	}}
}

// passwordOf is what applications log in to the cache with.
func passwordOf(ctx context.Context, fc *v1alpha1.FlagCache) string {
	GinkgoHelper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: fc.Namespace, Name: fc.Name + "-connection"}}
	return string(read(ctx, secret).Data["password"])
}

// tokensOf are the tokens on record, one for each cache.
func tokensOf(ctx context.Context, fc *v1alpha1.FlagCache) []string {
	GinkgoHelper()
	secrets := &corev1.SecretList{}
	Expect(local.Client.List(ctx, secrets, client.InNamespace(fc.Namespace), client.HasLabels{v1alpha1.LabelCache})).To(Succeed())
	var tokens []string
	for _, secret := range secrets.Items {
		tokens = append(tokens, string(secret.Data["token"]))
	}
	return tokens
}

// cloudGroups are the groups that AWS has.
func cloudGroups(ctx context.Context) []string {
	GinkgoHelper()
	groups, err := local.CloudGroups(ctx)
	Expect(err).NotTo(HaveOccurred())
	return groups
}
