// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

var _ = Describe("The sample, from apply to delete", Ordered, func() {
	var (
		namespace        string
		before           cluster.Inventory
		demo             *v1alpha1.FlagCache
		flags            *corev1.ConfigMap
		expectNoneFailed func()
	)

	BeforeAll(func(ctx context.Context) {
		namespace = aNamespace(ctx)
		demo = &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}}
		flags = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo-flags"}}
		before = inventory(ctx, namespace)
	})

	It("becomes Ready", func(ctx context.Context) {
		kubectl(ctx, "apply", "--namespace", namespace, "--filename", "config/samples/flagcache.yaml")
		before["ConfigMap/demo-flags"] = "the user's"
		kubectl(ctx, "wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=2m", "flagcache/demo")
		expectReady(ctx, demo)
		for _, kind := range []string{
			v1alpha1.ConditionCacheProvisioned, v1alpha1.ConditionCacheHealthy, v1alpha1.ConditionConnectionReady,
			v1alpha1.ConditionFlagsValid, v1alpha1.ConditionServiceAvailable, v1alpha1.ConditionServing, v1alpha1.ConditionRolloutHealthy,
		} {
			Expect(demo.Status.Conditions).To(ContainElement(And(HaveField("Type", kind), HaveField("Status", metav1.ConditionTrue))))
		}
		Expect(demo.Status.Service.ReadyReplicas).To(Equal(int32(2)))
		Expect(kubectl(ctx, "get", "fcache", "demo", "--namespace", namespace)).To(ContainSubstring(demo.Status.Revisions.Stable))
	})

	DescribeTable("answers an application",
		func(ctx context.Context, flag string, about cluster.Context, variant string, value types.GomegaMatcher) {
			answer, err := endpointOf(ctx, demo).Evaluate(ctx, flag, about)
			Expect(err).NotTo(HaveOccurred())
			Expect(answer.Variant).To(Equal(variant))
			Expect(answer.Value).To(value)
			Expect(answer.Revision).To(Equal(revisionOf(ctx, demo)))
		},
		Entry("with a boolean", "maintenance", nil, "off", Equal(false)),
		Entry("with a string by a rule", "welcome-message", cluster.Context{"locale": "fr-FR"}, "french", Equal("Bienvenue dans la boutique !")),
		Entry("with a string by default", "welcome-message", cluster.Context{"locale": "it"}, "english", Equal("Welcome to the shop!")),
		Entry("with an integer by version", "search-page-size", cluster.Context{"appVersion": "2.3.0"}, "large", Equal(50.0)),
		Entry("with a float by two conditions", "discount-rate", cluster.Context{"country": "DE", "orders": 10}, "loyal", Equal(0.125)),
		Entry("with an object", "recommendations", cluster.Context{"email": "a@shop.example"}, "next",
			Equal(map[string]any{"model": "bought-together", "items": 12.0})),
		Entry("by a rollout that the staff is in", "new-checkout", cluster.Context{"targetingKey": "u", "email": "a@shop.example"}, "on", Equal(true)),
		Entry("with nothing for a disabled flag", "legacy-cart", nil, "", BeNil()),
	)

	It("answers for all flags at once", func(ctx context.Context) {
		answers, err := endpointOf(ctx, demo).EvaluateAll(ctx, cluster.Context{"targetingKey": "u"})
		Expect(err).NotTo(HaveOccurred())
		Expect(answers).To(HaveLen(12))
		Expect(answers).To(HaveEach(HaveField("Code", BeEmpty())))
	})

	It("publishes the binding and the endpoint for applications", func(ctx context.Context) {
		binding := read(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: demo.Status.Binding.Name}})
		Expect(binding.Type).To(Equal(corev1.SecretType("servicebinding.io/redis")))
		for _, key := range []string{"type", "provider", "host", "port", "password", "uri", "REDIS_URL"} {
			Expect(binding.Data).To(HaveKey(key))
		}
		environment := read(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo-client"}})
		Expect(environment.Data).To(HaveKeyWithValue("OFREP_ENDPOINT", demo.Status.Service.OFREPEndpoint))
	})

	It("has disruption budgets and network policies", func(ctx context.Context) {
		in := client.InNamespace(namespace)
		budgets := &policyv1.PodDisruptionBudgetList{}
		Expect(local.Client.List(ctx, budgets, in)).To(Succeed())
		Expect(budgets.Items).To(ConsistOf(HaveField("Status.CurrentHealthy", Equal(int32(2)))), "one for the serving revision")
		policies := &networkingv1.NetworkPolicyList{}
		Expect(local.Client.List(ctx, policies, in)).To(Succeed())
		Expect(policies.Items).To(ConsistOf(HaveField("Name", "demo"), HaveField("Name", "demo-redis")))
	})

	It("keeps serving while Redis is down, and reports it", func(ctx context.Context) {
		expectNoneFailed = withTraffic(ctx, demo, "welcome-message")
		// A quota of no pods keeps Redis down, in this namespace alone.
		quota := &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "no-pods"},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
		}
		created(ctx, quota)
		DeferCleanup(func(ctx context.Context) { Expect(local.Client.Delete(ctx, quota)).To(Succeed()) })
		kubectl(ctx, "delete", "pod", "demo-redis-0", "--namespace", namespace, "--force", "--grace-period=0")
		expectCondition(ctx, demo, v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, "ConnectionRefused")
		Expect(messageOf(demo, v1alpha1.ConditionCacheHealthy)).To(ContainSubstring("demo-redis." + namespace + ".svc:6379"))
		Expect(demo).To(haveCondition(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing))
		expectNoneFailed()
	})

	It("is healthy again once Redis is back", func(ctx context.Context) {
		expectCondition(ctx, demo, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
		expectReady(ctx, demo)
		expectNoneFailed()
	})

	It("serves a changed flag from every pod, without a new revision", func(ctx context.Context) {
		revision := revisionOf(ctx, demo)
		changed(ctx, flags, func(f *corev1.ConfigMap) { setDefault(f, "maintenance", "on") })
		expectEveryPodServes(ctx, demo, "maintenance", "on")
		Expect(revisionOf(ctx, demo)).To(Equal(revision))
		expectNoneFailed()
	})

	It("keeps the last good flags when the file is invalid, and reports where", func(ctx context.Context) {
		good := read(ctx, flags).Data["flags.json"]
		changed(ctx, flags, func(f *corev1.ConfigMap) { f.Data["flags.json"] = "{\n  \"flags\": {\n    oops" })
		expectCondition(ctx, demo, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		Expect(messageOf(demo, v1alpha1.ConditionFlagsValid)).To(ContainSubstring("line 3, column 5"))
		expectCondition(ctx, demo, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonUnparseable)
		Consistently(ctx, func(g Gomega, ctx context.Context) {
			answer, err := endpointOf(ctx, demo).Evaluate(ctx, "maintenance", nil)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(answer.Variant).To(Equal("on"))
		}).WithTimeout(5*time.Second).WithPolling(100*time.Millisecond).Should(Succeed(), "an invalid file is not published")

		changed(ctx, flags, func(f *corev1.ConfigMap) { f.Data["flags.json"] = good })
		expectReady(ctx, demo)
		expectNoneFailed()
	})

	It("scales without a new revision", func(ctx context.Context) {
		revision := revisionOf(ctx, demo)
		changed(ctx, demo, func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Replicas = ptr.To[int32](3) })
		expectReady(ctx, demo)
		Expect(demo.Status.Service.ReadyReplicas).To(Equal(int32(3)))
		Expect(revisionOf(ctx, demo)).To(Equal(revision))
		expectNoneFailed()
	})

	It("moves to a new revision without a failed evaluation", func(ctx context.Context) {
		revision := revisionOf(ctx, demo)
		// Without a canary the new revision serves as soon as it is ready.
		kubectl(ctx, "patch", "flagcache", "demo", "--namespace", namespace, "--type=merge", "--patch", newRevision)
		kubectl(ctx, "wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=2m", "flagcache/demo")
		expectReady(ctx, demo)
		Expect(revisionOf(ctx, demo)).NotTo(Equal(revision))
		Eventually(ctx, func() int { return len(deploymentsOf(ctx, demo)) }).Should(Equal(1), "the old revision is deleted")
		Eventually(ctx, func() []corev1.Pod { return podsOf(ctx, demo, v1alpha1.ComponentService) }).Should(HaveLen(3), "pods of the new revision alone")
		expectNoneFailed()
		answer, err := endpointOf(ctx, demo).Evaluate(ctx, "maintenance", nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(answer.Revision).To(Equal(revisionOf(ctx, demo)))
	})

	It("leaves nothing when it is deleted", func(ctx context.Context) {
		expectNoneFailed()
		kubectl(ctx, "delete", "flagcache", "demo", "--namespace", namespace, "--timeout=2m")
		expectNothingLeft(ctx, namespace, before)
		Expect(read(ctx, flags).Data).NotTo(BeEmpty(), "the flags belong to the user")
	})

	It("had the right status for kstatus at all times", func(ctx context.Context) {
		Eventually(ctx, func() []status.Status { return record.phases(namespace, "demo") }).Should(Equal([]status.Status{
			status.InProgressStatus, // being created
			status.CurrentStatus,
			status.InProgressStatus, // Redis is down
			status.CurrentStatus,
			status.FailedStatus, // the flags are invalid
			status.CurrentStatus,
			status.InProgressStatus, // scaling
			status.CurrentStatus,
			status.InProgressStatus, // the next revision
			status.CurrentStatus,
			status.TerminatingStatus,
		}))
	})
})

// newRevision is a patch that makes another revision, which serves without a canary.
const newRevision = `{"spec": {
	"canary": {"steps": [], "scaleDownDelay": "0s"},
	"service": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]}}}`

// setDefault changes the default variant of a flag.
func setDefault(flags *corev1.ConfigMap, flag, variant string) {
	GinkgoHelper()
	document := map[string]any{}
	Expect(json.Unmarshal([]byte(flags.Data["flags.json"]), &document)).To(Succeed())
	document["flags"].(map[string]any)[flag].(map[string]any)["defaultVariant"] = variant
	var text strings.Builder
	Expect(json.NewEncoder(&text).Encode(document)).To(Succeed())
	flags.Data["flags.json"] = text.String()
}
