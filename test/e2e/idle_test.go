// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// Serial, because the operator is stopped, and the writes of all are counted.
var _ = Describe("The sample, while the operator is stopped or has nothing to do", Ordered, Serial, func() {
	var (
		namespace string
		demo      *v1alpha1.FlagCache
	)

	BeforeAll(func(ctx context.Context) {
		namespace = aNamespace(ctx)
		demo = &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}}
		kubectl(ctx, "apply", "--namespace", namespace, "--filename", "config/samples/flagcache.yaml")
		expectReady(ctx, demo)
	})

	It("does not let kubectl wait pass on the state of an older spec", func(ctx context.Context) {
		revision := revisionOf(ctx, demo)
		wait := func(timeout string) error {
			_, err := local.Kubectl(ctx, "wait", "--namespace", namespace, "--for=condition=Ready", "--timeout="+timeout, "flagcache/demo")
			return err
		}
		// Without an operator the old state stays for as long as needed.
		stopOperator(ctx)
		kubectl(ctx, "patch", "flagcache", "demo", "--namespace", namespace, "--type=merge", "--patch", newRevision)
		Expect(wait("2s")).To(MatchError(ContainSubstring("timed out")))
		startOperator(ctx)
		Expect(wait("2m")).To(Succeed())
		Expect(revisionOf(ctx, demo)).NotTo(Equal(revision))
	})

	It("writes nothing when there is nothing to do but serve", func(ctx context.Context) {
		expectNoneFailed := withTraffic(ctx, demo, "welcome-message")
		By("waiting for the end of other specs' namespaces, whose deletion writes as well, and of the old revision")
		Eventually(ctx, terminatingNamespaces).Should(BeEmpty())
		Eventually(ctx, func() int { return len(deploymentsOf(ctx, demo)) }).Should(Equal(1), "Deployments")
		var earlier map[string]int
		Eventually(ctx, func() map[string]int {
			last := earlier
			earlier = writes(ctx)
			return since(last, earlier)
		}).WithPolling(time.Second).Should(BeEmpty(), "writes within a second")

		Consistently(ctx, func() map[string]int { return since(earlier, writes(ctx)) }).
			WithTimeout(3*time.Second).Should(BeEmpty(), "writes while the cache is probed")

		By("requesting a reconcile: the only writes are the request and the status")
		kubectl(ctx, "annotate", "flagcache", "demo", "--namespace", namespace, v1alpha1.AnnotationReconcileAt+"=now")
		Eventually(ctx, func() string { return read(ctx, demo).Status.LastHandledReconcileAt }).Should(Equal("now"))
		Consistently(ctx, func() map[string]int { return since(earlier, writes(ctx)) }).WithTimeout(2 * time.Second).
			Should(Equal(map[string]int{"PATCH flagcaches/": 1, "PATCH flagcaches/status": 1}))

		By("restarting the operator: it finds everything as it should be")
		earlier = writes(ctx)
		kubectl(ctx, "delete", "pods", "--namespace", cluster.OperatorNamespace, "--all")
		Expect(local.AwaitOperator(ctx, cluster.OperatorNamespace)).To(Succeed())
		changedAt := read(ctx, demo).ResourceVersion
		Eventually(ctx, func() string { return local.OperatorLog(ctx, 20) }).Should(ContainSubstring("Starting workers"))
		Consistently(ctx, func() map[string]int { return since(earlier, writes(ctx)) }).WithTimeout(3 * time.Second).Should(BeEmpty())
		Expect(read(ctx, demo).ResourceVersion).To(Equal(changedAt))
		expectReady(ctx, demo)
		expectNoneFailed()
	})
})
