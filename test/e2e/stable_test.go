// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

const (
	// stableRate is how many requests a second clients send while the stable revision is
	// deleted, or its labels are edited.
	stableRate = 200
	// imageMissing is an image that cannot be pulled.
	imageMissing = "localhost/missing:1"
)

// startStableLoad starts clients that call the FlagCache itself.
func startStableLoad(ctx context.Context, fc *v1alpha1.FlagCache) *canaryLoad {
	GinkgoHelper()
	return startLoad(ctx, fmt.Sprintf("%s.%s.svc:80", fc.Name, fc.Namespace), stableRate)
}

// stableDeployment is the Deployment of a revision.
func stableDeployment(fc *v1alpha1.FlagCache, revision string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: fc.Namespace, Name: fc.Name + "-" + revision}}
}

// clientService is the Service that clients call.
func clientService(fc *v1alpha1.FlagCache) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: fc.Namespace, Name: fc.Name}}
}

// expectSelected waits until the Service selects a revision that has a ready pod.
func expectSelected(ctx context.Context, fc *v1alpha1.FlagCache, revision string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		service, d := clientService(fc), stableDeployment(fc, revision)
		g.Expect(local.Client.Get(ctx, client.ObjectKeyFromObject(service), service)).To(Succeed())
		g.Expect(service.Spec.Selector).To(HaveKeyWithValue(v1alpha1.LabelRevision, revision))
		g.Expect(local.Client.Get(ctx, client.ObjectKeyFromObject(d), d)).To(Succeed())
		g.Expect(d.Status.ReadyReplicas).To(BeNumerically(">", 0))
	}).WithTimeout(rolledOut).Should(Succeed())
}

// uidsOf are the UIDs of pods.
func uidsOf(pods []corev1.Pod) []types.UID {
	var uids []types.UID
	for i := range pods {
		uids = append(uids, pods[i].UID)
	}
	return uids
}

// expectServesForSeconds expects a FlagCache to serve for as long as clients need to send a
// few hundred requests.
func expectServesForSeconds(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	Consistently(ctx, func(ctx context.Context) *v1alpha1.FlagCache { return read(ctx, fc) }).WithTimeout(3 * time.Second).
		Should(haveCondition(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing))
}

// inStep brings a candidate to its only step, in which it stays, and returns the stable
// revision.
func inStep(ctx context.Context, fc *v1alpha1.FlagCache) (stable string) {
	GinkgoHelper()
	stable = revisionOf(ctx, fc)
	changeRelease(ctx, fc, "none", good(longTrial))
	Eventually(ctx, func(ctx context.Context) float64 { return weightOf(ctx, fc) }).WithTimeout(rolledOut).Should(Equal(5.0))
	return stable
}

var _ = Describe("A stable revision", Label("canary"), func() {
	It("that never had a ready pod is replaced by the next one that has", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		fc := aFlagCache(namespace, "typo", triedBy(longTrial), func(spec *v1alpha1.FlagCacheSpec) { spec.Service.Image = imageMissing })
		created(ctx, someFlags(namespace), fc)
		Eventually(ctx, func(ctx context.Context) *v1alpha1.RevisionsStatus { return read(ctx, fc).Status.Revisions }).
			Should(HaveField("Stable", Not(BeEmpty())))
		expectCondition(ctx, fc, v1alpha1.ConditionRolloutHealthy, metav1.ConditionUnknown, v1alpha1.ReasonNotStarted)
		broken := revisionOf(ctx, fc)
		Expect(fc.Status.History).To(BeEmpty(), "nothing was promoted")

		By("correcting the image")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Image = "" })
		expectCondition(ctx, fc, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		load := startStableLoad(ctx, fc)
		expectReady(ctx, fc)
		Expect(revisionOf(ctx, fc)).NotTo(Equal(broken))
		expectServesForSeconds(ctx, fc)
		load.expectNoClientAffected()
	}, SpecTimeout(rolledOut))

	Context("under load", Ordered, func() {
		var (
			fc     *v1alpha1.FlagCache
			load   *canaryLoad
			stable string
		)

		BeforeAll(func(ctx context.Context) {
			namespace := aNamespace(ctx)
			fc = aFlagCache(namespace, "stable", triedBy(longTrial))
			created(ctx, someFlags(namespace), fc)
			expectReady(ctx, fc)
			stable = inStep(ctx, fc)
			load = startStableLoad(ctx, fc)
			expectServesForSeconds(ctx, fc) // by then the clients have their connections
		})

		It("keeps serving when the selector of the Service names no revision", func(ctx context.Context) {
			before := read(ctx, stableDeployment(fc, stable)).UID
			changed(ctx, clientService(fc), func(s *corev1.Service) { s.Spec.Selector[v1alpha1.LabelRevision] = "deadbeef" })
			expectSelected(ctx, fc, stable)
			Expect(read(ctx, stableDeployment(fc, stable)).UID).To(Equal(before))
		}, SpecTimeout(rolledOut))

		It("keeps serving when another label is added to the selector", func(ctx context.Context) {
			changed(ctx, clientService(fc), func(s *corev1.Service) { s.Spec.Selector["release"] = "blue" })
			Eventually(ctx, func(ctx context.Context) map[string]string { return read(ctx, clientService(fc)).Spec.Selector }).
				WithTimeout(rolledOut).ShouldNot(HaveKey("release"))
			expectSelected(ctx, fc, stable)
		}, SpecTimeout(rolledOut))

		It("keeps serving when its label is removed", func(ctx context.Context) {
			before := read(ctx, stableDeployment(fc, stable)).UID
			changed(ctx, stableDeployment(fc, stable), func(d *appsv1.Deployment) { delete(d.Labels, v1alpha1.LabelRevision) })
			Eventually(ctx, func(ctx context.Context) map[string]string { return read(ctx, stableDeployment(fc, stable)).Labels }).
				WithTimeout(rolledOut).Should(HaveKeyWithValue(v1alpha1.LabelRevision, stable))
			Expect(read(ctx, stableDeployment(fc, stable)).UID).To(Equal(before))
			expectSelected(ctx, fc, stable)
		}, SpecTimeout(rolledOut))

		It("affected no client whose pods were not killed", func() { load.expectNoClientAffected() })

		It("is made again when its Deployment is deleted, and the candidate serves meanwhile", func(ctx context.Context) {
			load = startStableLoad(ctx, fc)
			before := read(ctx, stableDeployment(fc, stable))
			Expect(local.Client.Delete(ctx, before)).To(Succeed())
			deleted := time.Now()
			expectSelected(ctx, fc, stable)
			AddReportEntry("From the deletion to the stable revision's serving again", time.Since(deleted).Round(100*time.Millisecond).String(), ReportEntryVisibilityAlways)
			after := read(ctx, stableDeployment(fc, stable))
			Expect(after.UID).NotTo(Equal(before.UID))
			Expect(after.Spec.Template).To(Equal(before.Spec.Template))
			Expect(revisionOf(ctx, fc)).To(Equal(stable))
			expectServesForSeconds(ctx, fc)

			// Its pod was killed: of each connection to it the last request may be lost.
			report := load.end()
			AddReportEntry("The load's report", report.String(), ReportEntryVisibilityAlways)
			Expect(report.Errors).To(BeNumerically("<=", load.options.Connections))
			Expect(report.ErrorsByKind).To(Or(BeEmpty(), HaveLen(1)))
			Expect(report.Requests).To(BeNumerically(">", 2*stableRate))
		}, SpecTimeout(rolledOut))

		It("is made again when its Deployment is deleted after a rollback", func(ctx context.Context) {
			candidate := read(ctx, fc).Status.Revisions.Candidate
			kubectl(ctx, "annotate", "flagcache", fc.Name, "--namespace", fc.Namespace, v1alpha1.AnnotationAbort+"="+candidate)
			expectCondition(ctx, fc, v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
			Eventually(ctx, func(ctx context.Context) []appsv1.Deployment { return deploymentsOf(ctx, fc) }).WithTimeout(rolledOut).Should(HaveLen(1))
			killed := uidsOf(podsOf(ctx, fc, v1alpha1.ComponentService))
			Expect(local.Client.Delete(ctx, stableDeployment(fc, stable))).To(Succeed())
			Eventually(ctx, func(ctx context.Context) []types.UID { return uidsOf(podsOf(ctx, fc, v1alpha1.ComponentService)) }).
				WithTimeout(rolledOut).Should(And(Not(BeEmpty()), Not(ContainElement(BeElementOf(killed)))))
			expectSelected(ctx, fc, stable)
			expectCondition(ctx, fc, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
			Expect(revisionOf(ctx, fc)).To(Equal(stable))
			again := startStableLoad(ctx, fc)
			expectServesForSeconds(ctx, fc)
			again.expectNoClientAffected()
		}, SpecTimeout(rolledOut))
	})
})
