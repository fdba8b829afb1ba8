// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/test/awsplayer"
)

// cloudRate is the rate of requests per second while the cache changes.
const cloudRate = 200

// quickTrial passes a good release within seconds, and keeps the previous revision for
// some more.
var quickTrial = v1alpha1.CanarySpec{
	Steps:           []v1alpha1.CanaryStep{{Weight: 50, Duration: metav1.Duration{Duration: 5 * time.Second}}},
	Metrics:         v1alpha1.MetricsSpec{Interval: metav1.Duration{Duration: time.Second}},
	Thresholds:      goodRelease,
	MinimumRequests: 200,
	ScaleDownDelay:  metav1.Duration{Duration: 5 * time.Second},
}

// ACK is its released controller, which polls every second; AWS is played by
// test/awsplayer, with real Redis servers. The operator is killed at each step that
// lasts; test/fault kills it between two writes of one reconcile. Serial, because ACK's
// kinds are installed for the whole cluster and the operator is restarted and killed.
var _ = Describe("A FlagCache in ElastiCache", Serial, func() {
	var left []string // groups of earlier specs that failed
	cloudGroups := func(ctx context.Context) []string {
		GinkgoHelper()
		groups, err := local.CloudGroups(ctx)
		Expect(err).NotTo(HaveOccurred())
		return slices.DeleteFunc(groups, func(id string) bool { return slices.Contains(left, id) })
	}

	BeforeEach(func(ctx context.Context) {
		Expect(local.DeployAWS(ctx)).To(Succeed())
		left = nil
		left = cloudGroups(ctx)
		Expect(local.DeployACK(ctx)).To(Succeed())
		Expect(local.TrustAWS(ctx)).To(Succeed()) // restarts the operator, which then finds ACK's kinds at once
	})

	AfterEach(func(ctx context.Context) {
		if CurrentSpecReport().Failed() {
			AddReportEntry("ACK's log", local.ACKLog(ctx))
			AddReportEntry("The calls of AWS", awsCalls(ctx))
		}
	})

	It("survives failover, rotation, replacement and deletion of its cache, without effect on clients", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		before := inventory(ctx, namespace)
		fc := aFlagCache(namespace, "cloud", inElastiCache)

		By("applying it")
		began := time.Now()
		created(ctx, fc)
		expectReady(ctx, fc)
		AddReportEntry("From apply to Ready", time.Since(began).Round(100*time.Millisecond).String(), ReportEntryVisibilityAlways)
		Expect(cloudGroups(ctx)).To(HaveLen(1))
		load := startLoad(ctx, fmt.Sprintf("%s.%s.svc:80", fc.Name, fc.Namespace), cloudRate)

		By("triggering a failover")
		Expect(local.ControlAWS(ctx, "/failover?id="+cloudGroups(ctx)[0])).To(Succeed())

		By("rotating its token")
		password, revision := passwordOf(ctx, fc), revisionOf(ctx, fc)
		seen := len(record.versions(ctx, fc))
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			fc.Spec.Canary = &quickTrial
			metav1.SetMetaDataAnnotation(&fc.ObjectMeta, v1alpha1.AnnotationRotateToken, "please")
		})
		killOperatorAt(ctx, "the new token is recorded", func(ctx context.Context) bool { return !slices.Contains(tokensOf(ctx, fc), password) })
		Expect(passwordOf(ctx, fc)).To(Equal(password), "the step had not ended")
		killOperatorAt(ctx, "the group has the new token", func(ctx context.Context) bool { return groupsOf(ctx, fc)[0].Generation > 1 })
		killOperatorDuringRollout(ctx, fc, revision)
		expectReady(ctx, fc)
		Expect(passwordOf(ctx, fc)).NotTo(Equal(password))
		Expect(tokensOf(ctx, fc)).To(ConsistOf(passwordOf(ctx, fc)))

		for _, version := range record.versions(ctx, fc)[seen:] {
			for _, kind := range []string{v1alpha1.ConditionCacheProvisioned, v1alpha1.ConditionServing} {
				Expect(meta.IsStatusConditionTrue(typed(version).Status.Conditions, kind)).To(BeTrue(), "%s in %s", kind, asJSON(version))
			}
		}

		By("replacing its cache by one of another engine")
		password, revision = passwordOf(ctx, fc), revisionOf(ctx, fc)
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			fc.Spec.Cache.ElastiCache.Engine, fc.Spec.Cache.ElastiCache.EngineVersion = v1alpha1.EngineValkey, "8.0"
		})
		killOperatorAt(ctx, "AWS creates the new cache", func(ctx context.Context) bool { return len(cloudGroups(ctx)) == 2 })
		Expect(revisionOf(ctx, fc)).To(Equal(revision), "the step had not ended")
		killOperatorDuringRollout(ctx, fc, revision)
		killOperatorAt(ctx, "the old cache is being deleted", func(ctx context.Context) bool { return len(notDeleting(groupsOf(ctx, fc))) == 1 })
		Eventually(ctx, cloudGroups).WithTimeout(soon).Should(HaveLen(1), "the old cache is deleted")
		expectReady(ctx, fc)
		Expect(passwordOf(ctx, fc)).NotTo(Equal(password))
		Eventually(ctx, func(ctx context.Context) []string { return tokensOf(ctx, fc) }).WithTimeout(soon).Should(ConsistOf(passwordOf(ctx, fc)), "the old token is deleted")
		load.expectNoClientAffected()

		By("deleting it")
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		killOperatorAt(ctx, "its cache is being deleted", func(ctx context.Context) bool { return len(notDeleting(groupsOf(ctx, fc))) == 0 })
		expectDeleted(ctx, fc)
		expectNothingLeft(ctx, namespace, before)
		Expect(cloudGroups(ctx)).To(BeEmpty())
	})

	It("replaces the Redis in the cluster once a release works with it, and not before", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		before := inventory(ctx, namespace)
		fc := aFlagCache(namespace, "moving", triedBy(quickTrial))
		created(ctx, fc)
		expectReady(ctx, fc)
		load := startLoad(ctx, fmt.Sprintf("%s.%s.svc:80", fc.Name, fc.Namespace), cloudRate)
		revision := revisionOf(ctx, fc)
		inCluster := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "moving-redis"}}

		By("moving it together with a release that does not start")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			inElastiCache(&fc.Spec)
			fc.Spec.Service.Image = "localhost/Invalid:1"
		})
		Eventually(ctx, cloudGroups).WithTimeout(soon).Should(HaveLen(1))
		Eventually(ctx, func() *v1alpha1.FlagCache { return read(ctx, fc) }).WithTimeout(rolledOut).
			Should(haveCondition(v1alpha1.ConditionCacheProvisioned, metav1.ConditionTrue, v1alpha1.ReasonReplacementRejected))
		Eventually(ctx, cloudGroups).WithTimeout(soon).Should(BeEmpty(), "the new cache is deleted")
		Expect(revisionOf(ctx, fc)).To(Equal(revision))
		read(ctx, inCluster)

		By("moving it alone")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Image = "" })
		Eventually(ctx, func() string { return revisionOf(ctx, fc) }).WithTimeout(rolledOut).ShouldNot(Equal(revision))
		expectReady(ctx, fc)
		Expect(cloudGroups(ctx)).To(HaveLen(1))
		expectDeleted(ctx, inCluster)
		load.expectNoClientAffected()

		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectDeleted(ctx, fc)
		expectNothingLeft(ctx, namespace, before)
		Expect(cloudGroups(ctx)).To(BeEmpty())
	})

	It("gives pods and probe users of their own with IAM, and removes them with the cache", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		before := inventory(ctx, namespace)
		fc := aFlagCache(namespace, "iam", inElastiCache, func(spec *v1alpha1.FlagCacheSpec) {
			spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
			spec.Cache.ElastiCache.Authentication.RoleARN = "arn:aws:iam::123456789012:role/shop"
			// Nothing in the cluster gives pods the credentials of a role: they sign their tokens with these.
			spec.Service.Env = []v1alpha1.EnvVar{{Name: "AWS_ACCESS_KEY_ID", Value: "pod"}, {Name: "AWS_SECRET_ACCESS_KEY", Value: "pod"}}
		})
		calls := len(awsCalls(ctx))
		created(ctx, fc)
		expectReady(ctx, fc)
		load := startLoad(ctx, fmt.Sprintf("%s.%s.svc:80", fc.Name, fc.Namespace), cloudRate)
		Expect(cloudGroups(ctx)).To(HaveLen(1))
		Expect(actions(awsCalls(ctx)[calls:])).To(Equal([]string{"CreateUser", "CreateUserGroup", "CreateReplicationGroup"}))
		expectLookups(ctx, fc)

		By("editing the users and the account of the pods")
		expectEditsUndone(ctx, fc, &ack.UserList{}, &ack.UserGroupList{}, &corev1.ServiceAccountList{})

		By("rolling out a release after a failover")
		Expect(local.ControlAWS(ctx, "/failover?id="+cloudGroups(ctx)[0])).To(Succeed())
		revision := revisionOf(ctx, fc)
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			fc.Spec.Canary = &quickTrial
			fc.Spec.Service.Env = append(fc.Spec.Service.Env, v1alpha1.EnvVar{Name: "LOG_LEVEL", Value: "debug"})
		})
		Eventually(ctx, func() string { return revisionOf(ctx, fc) }).WithTimeout(rolledOut).ShouldNot(Equal(revision))
		expectReady(ctx, fc)
		load.expectNoClientAffected()

		By("deleting it")
		calls = len(awsCalls(ctx))
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectDeleted(ctx, fc)
		expectNothingLeft(ctx, namespace, before)
		Expect(actions(awsCalls(ctx)[calls:])).To(Equal([]string{"DeleteReplicationGroup", "DeleteUserGroup", "DeleteUser"}))
	})

	It("is retained, adopted by its successor, and deleted after a final snapshot", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		before := inventory(ctx, namespace)
		retained := aFlagCache(namespace, "kept", inElastiCache)
		retained.Spec.DeletionPolicy = v1alpha1.DeletionRetain
		created(ctx, retained)
		expectReady(ctx, retained)
		id, since := retained.Status.Cache.ReplicationGroupID, retained.Status.Cache.CreatedAt
		Expect(cloudGroups(ctx)).To(Equal([]string{id}))

		By("deleting it")
		calls := len(awsCalls(ctx))
		Expect(local.Client.Delete(ctx, retained)).To(Succeed())
		expectDeleted(ctx, retained)
		expectNothingLeft(ctx, namespace, before)
		Expect(cloudGroups(ctx)).To(Equal([]string{id}))

		By("creating it again")
		fc := aFlagCache(namespace, "kept", inElastiCache)
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		fc.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id}
		created(ctx, fc)
		expectReady(ctx, fc)
		Expect(fc.Status.Cache.ReplicationGroupID).To(Equal(id))
		Expect(fc.Status.Cache.CreatedAt).To(Equal(since))
		expectEveryPodServes(ctx, fc, "colour", "blue")
		expectLookups(ctx, fc)

		By("deleting it with a final snapshot")
		Expect(actions(awsCalls(ctx)[calls:])).To(HaveEach(Or(Equal("ModifyReplicationGroup"), Equal("AddTagsToResource"))), "nothing was created")
		calls = len(awsCalls(ctx))
		Expect(local.ControlAWS(ctx, "/fault?action=CreateSnapshot&delay=3s")).To(Succeed())
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectEditsUndone(ctx, fc, &ack.SnapshotList{})
		expectDeleted(ctx, fc)
		expectNothingLeft(ctx, namespace, before)
		Expect(actions(awsCalls(ctx)[calls:])).To(Equal([]string{"CreateSnapshot", "DeleteReplicationGroup"}))
		Expect(cloudGroups(ctx)).To(BeEmpty())
	})
})

// killOperatorAt kills the operator as soon as a step has begun.
func killOperatorAt(ctx context.Context, step string, begun func(ctx context.Context) bool) {
	GinkgoHelper()
	By("killing the operator when " + step)
	Eventually(ctx, begun).WithTimeout(rolledOut).WithPolling(50*time.Millisecond).Should(BeTrue(), step)
	killOperator(ctx)
	Expect(local.ReleaseLease(ctx)).To(Succeed()) // how one expires is seen in restart_test.go
}

// killOperatorDuringRollout kills the operator at each step of the rollout that replaces
// a revision.
func killOperatorDuringRollout(ctx context.Context, fc *v1alpha1.FlagCache, revision string) {
	GinkgoHelper()
	killOperatorAt(ctx, "the candidate's pods start", func(ctx context.Context) bool { return len(deploymentsOf(ctx, fc)) == 2 })
	Expect(revisionOf(ctx, fc)).To(Equal(revision), "the step had not ended")
	killOperatorAt(ctx, "the candidate has traffic", func(ctx context.Context) bool {
		canary := read(ctx, fc).Status.Canary
		return canary != nil && canary.Weight > 0
	})
	Expect(revisionOf(ctx, fc)).To(Equal(revision), "the step had not ended")
	killOperatorAt(ctx, "the candidate is promoted", func(ctx context.Context) bool { return revisionOf(ctx, fc) != revision })
	Eventually(ctx, func(ctx context.Context) int { return len(deploymentsOf(ctx, fc)) }).WithTimeout(soon).Should(Equal(1), "the old revision is deleted")
}

// inElastiCache gives a FlagCache a cache in ElastiCache.
func inElastiCache(spec *v1alpha1.FlagCacheSpec) {
	spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheElastiCache, ElastiCache: &v1alpha1.ElastiCacheSpec{
		Engine: v1alpha1.EngineRedis, EngineVersion: "7.1", Replicas: 1,
	}}
}

// passwordOf is the password in the connection Secret.
func passwordOf(ctx context.Context, fc *v1alpha1.FlagCache) string {
	GinkgoHelper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: fc.Namespace, Name: fc.Name + "-connection"}}
	return string(read(ctx, secret).Data["password"])
}

// tokensOf are the recorded tokens, one for each cache.
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

// groupsOf are the ReplicationGroup objects of a FlagCache.
func groupsOf(ctx context.Context, fc *v1alpha1.FlagCache) []ack.ReplicationGroup {
	GinkgoHelper()
	groups := &ack.ReplicationGroupList{}
	Expect(local.Client.List(ctx, groups, client.InNamespace(fc.Namespace))).To(Succeed())
	return groups.Items
}

// notDeleting are the groups that are not being deleted.
func notDeleting(groups []ack.ReplicationGroup) []ack.ReplicationGroup {
	return slices.DeleteFunc(groups, func(g ack.ReplicationGroup) bool { return g.DeletionTimestamp != nil })
}

// awsCalls are the calls that changed AWS.
func awsCalls(ctx context.Context) []awsplayer.Call {
	GinkgoHelper()
	calls, err := local.AWSCalls(ctx)
	Expect(err).NotTo(HaveOccurred())
	return slices.DeleteFunc(calls, func(c awsplayer.Call) bool { return c.Code != "" || !c.Mutating() })
}

// actions are the actions of calls, in order, without repetitions.
func actions(calls []awsplayer.Call) []string {
	var names []string
	for _, call := range calls {
		names = append(names, call.Action)
	}
	return slices.Compact(names)
}

// expectLookups waits until Redis has answered a lookup of the pods.
func expectLookups(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	answered := func(families map[string]*dto.MetricFamily) float64 {
		return sumUnless(families[config.MetricCacheRequests], "error")
	}
	Eventually(ctx, func(ctx context.Context) float64 { return countBad(ctx, fc, answered) }).WithTimeout(soon).
		Should(BeNumerically(">", 0), "lookups of the pods in Redis")
}
