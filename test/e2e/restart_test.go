// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Serial, because other specs need the operator.
var _ = Describe("An operator that is killed during its work", Serial, func() {
	It("completes the work after its restart", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		old, fresh := aFlagCache(namespace, "old"), aFlagCache(namespace, "fresh")
		created(ctx, someFlags(namespace), old)
		expectReady(ctx, old)
		revision := revisionOf(ctx, old)
		expectNoneFailed := withTraffic(ctx, old, "colour")

		By("killing it while one FlagCache is being created and another changed")
		changed(ctx, old, func(fc *v1alpha1.FlagCache) {
			fc.Spec.Service.Env = []v1alpha1.EnvVar{{Name: "LOG_LEVEL", Value: "debug"}}
		})
		created(ctx, fresh)
		redis := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fresh-redis"}}
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(deploymentsOf(ctx, old)).To(HaveLen(2))
			g.Expect(local.Client.Get(ctx, client.ObjectKeyFromObject(redis), redis)).To(Succeed())
		}).Should(Succeed(), "both have begun")
		killOperator(ctx)
		Expect(read(ctx, fresh).Status.Conditions).NotTo(ContainElement(
			And(HaveField("Type", v1alpha1.ConditionReady), HaveField("Status", metav1.ConditionTrue))), "it had not finished")

		By("waiting for both, after its lease has expired")
		expectReady(ctx, fresh)
		expectReady(ctx, old)
		Expect(revisionOf(ctx, old)).NotTo(Equal(revision))
		Eventually(ctx, func() int { return len(deploymentsOf(ctx, old)) }).Should(Equal(1), "the old revision is deleted")
		Expect(deploymentsOf(ctx, fresh)).To(HaveLen(1))
		expectEveryPodServes(ctx, fresh, "colour", "blue")
		expectNoneFailed()
	})
})
