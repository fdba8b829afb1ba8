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
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackplayer"
)

// With ACK played, and real Redis servers that a real prober probes.
var _ = Describe("A FlagCache in ElastiCache", Ordered, func() {
	var player *ackplayer.Player
	BeforeAll(func(ctx context.Context) {
		Expect(ackplayer.InstallCRDs(ctx, k8s)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(ackplayer.RemoveCRDs(ctx, k8s)).To(Succeed()) })
		var err error
		player, err = ackplayer.New(ackplayer.Options{Config: config, Log: ctrl.Log, Poll: 200 * time.Millisecond})
		Expect(err).NotTo(HaveOccurred())
		run(player)
	})

	It("gets a connection that was tried, in a group that ACK leaves alone", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		group := s.group(ctx)
		token := get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+group.Labels[v1alpha1.LabelCache]).Data["token"]
		published := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data
		Expect(token).To(HaveLen(64))
		Expect(published["password"]).To(Equal(token))
		Expect(string(published["host"])).To(Equal(group.PrimaryEndpoint().Address))
		Expect(string(published["port"])).To(Equal(fmt.Sprint(group.PrimaryEndpoint().Port)))
		Expect(string(published["tls"])).To(Equal("true"))

		s.expectLeftAlone(ctx)
		for range 5 {
			s.reconcile(ctx)
			Expect(s.writes).To(BeEmpty())
		}
		By("applying it once more, because its hash is gone")
		edit(ctx, s.stage, group, group.Name, func(g *ack.ReplicationGroup) { delete(g.Annotations, v1alpha1.AnnotationApplied) })
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Annotations).To(HaveKey(v1alpha1.AnnotationApplied))
		})
		Expect(player.Resync(ctx)).To(Succeed())
		s.settle(ctx)
		s.expectLeftAlone(ctx)
	})

	It("gets another token on request, which clients have when it works", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		before := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]
		// ACK's times are of whole seconds: a look in the same one as the change would say
		// nothing.
		Expect(player.Resync(ctx)).To(Succeed())
		By("having ACK not tell AWS of it yet")
		player.Pause()
		DeferCleanup(player.Resume)
		s.annotate(ctx, v1alpha1.AnnotationRotateToken, "please")
		id := s.group(ctx).Labels[v1alpha1.LabelCache]
		s.eventually(ctx, func(g Gomega) {
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+id).Data["token"]).NotTo(Equal(before))
		})
		Consistently(ctx, func(g Gomega) {
			s.look(ctx, g)
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).To(Equal(before), "it works and the new one does not")
			s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}).WithTimeout(4 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())

		player.Resume()
		s.eventually(ctx, func(g Gomega) {
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).NotTo(Equal(before))
		})
		s.becomesReady(ctx)
		s.expectMatchingTokens(ctx)
		Expect(modifications(player, s.group(ctx).Spec.ReplicationGroupID)).To(Equal(1), "AWS is told of one token")
	})

	It("takes its cache along when it is deleted", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		id := s.group(ctx).Spec.ReplicationGroupID
		Expect(player.Groups()).To(ContainElement(id))
		s.isDeleted(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("says why AWS does not delete its cache, and goes when AWS does", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		id := s.group(ctx).Spec.ReplicationGroupID
		player.Refuse(ackplayer.Delete, id, "InvalidReplicationGroupState", 10)
		Expect(k8s.Delete(ctx, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			c := s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
			g.Expect(c.Message).To(And(ContainSubstring("ReplicationGroup demo-"), ContainSubstring("AWS refuses: InvalidReplicationGroupState")))
		})
		s.isGone(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("leaves a retained cache behind, and takes it over when it comes back", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
		s.comesUp(ctx, fc)
		id := s.group(ctx).Spec.ReplicationGroupID
		s.expectLeftAlone(ctx)

		By("deleting ACK's resource first, as a namespace that goes does")
		Expect(k8s.Delete(ctx, s.group(ctx))).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			groups := &ack.ReplicationGroupList{}
			g.Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
			g.Expect(groups.Items).To(BeEmpty())
		}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
		s.isDeleted(ctx)
		Expect(player.Groups()).To(ContainElement(id))

		By("making it again")
		s.create(ctx, s.anElastiCache())
		s.eventually(ctx, func(g Gomega) {
			s.provisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonAlreadyExists)
		})
		s.annotate(ctx, v1alpha1.AnnotationAdopt, id)
		s.eventually(ctx, func(g Gomega) {
			s.provisioned(g, ctx, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
		})
		s.becomesReady(ctx)
		Expect(s.group(ctx).Spec.ReplicationGroupID).To(Equal(id))
		s.expectMatchingTokens(ctx)
		s.isDeleted(ctx)
	})

	It("has ACK keep what it keeps itself, for as long as the policy says so", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
		s.comesUp(ctx, fc)
		id := s.group(ctx).Spec.ReplicationGroupID
		Expect(s.group(ctx).Annotations).To(HaveKeyWithValue(ack.AnnotationDeletionPolicy, ack.DeletionRetain))
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.DeletionPolicy = v1alpha1.DeletionDelete })
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Annotations).NotTo(HaveKey(ack.AnnotationDeletionPolicy))
		})
		s.expectLeftAlone(ctx)
		s.isDeleted(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("goes only when its last snapshot is there", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		s.comesUp(ctx, fc)
		group := s.group(ctx)
		calls := len(player.Calls())

		By("having ACK take none yet")
		player.Pause()
		DeferCleanup(player.Resume)
		Expect(k8s.Delete(ctx, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			c := s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
			g.Expect(c.Message).To(ContainSubstring("the last snapshot to be taken"))
		})
		for range 5 {
			s.reconcile(ctx)
		}
		Expect(s.group(ctx).DeletionTimestamp).To(BeNil())
		snapshot := get(ctx, s.stage, &ack.Snapshot{}, group.Name)
		Expect(group.Status.MemberClusters).To(ContainElement(snapshot.Spec.CacheClusterID))

		player.Resume()
		s.isDeleted(ctx)
		Expect(happened(player, group, calls)).To(Equal([]string{"Create Snapshot", "Delete ReplicationGroup"}), "the snapshot outlives all else")
		Expect(player.Groups()).NotTo(ContainElement(group.Spec.ReplicationGroupID))
	})

	It("lets pods in by IAM, and the probe by a user of its own", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
		s.comesUp(ctx, fc)
		group := s.group(ctx)
		id := group.Spec.ReplicationGroupID
		Expect(happened(player, group, 0)).To(Equal([]string{"Create User", "Create UserGroup", "Create ReplicationGroup"}))
		Expect(group.Spec.UserGroupIDs).To(Equal([]string{id}))
		Expect(group.Spec.AuthToken).To(BeNil())
		s.expectLeftAlone(ctx)
		published := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data
		Expect(published).NotTo(HaveKey("password"))
		Expect([]string{string(published["username"]), string(published["iam-cache"]), string(published["iam-region"])}).To(Equal([]string{id, id, "eu-west-1"}))

		By("losing the Secret with the probe's password")
		users := get(ctx, s.stage, &ack.UserGroup{}, group.Name).Spec.UserIDs
		calls := len(player.Calls())
		Expect(k8s.Delete(ctx, get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+group.Labels[v1alpha1.LabelCache]))).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			others := get(ctx, s.stage, &ack.UserGroup{}, group.Name).Spec.UserIDs
			g.Expect(others).To(And(HaveLen(len(users)), Not(Equal(users))))
		})
		s.eventually(ctx, func(g Gomega) {
			g.Expect(happened(player, group, calls)).To(Equal([]string{"Create User", "Modify UserGroup", "Delete User"}))
		})
		s.becomesReady(ctx)
		Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data).To(Equal(published), "pods do not notice")

		calls = len(player.Calls())
		s.isDeleted(ctx)
		Expect(happened(player, group, calls)).To(Equal([]string{"Delete ReplicationGroup", "Delete UserGroup", "Delete User"}))
	})

	It("is changed by one class at a time, and clients notice nothing", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		before := s.group(ctx)
		id := before.Spec.ReplicationGroupID

		By("changing nodes, replicas, the engine and a window at once")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			e := fc.Spec.Cache.ElastiCache
			e.NodeType, e.Replicas, e.EngineVersion, e.MaintenanceWindow = "cache.t3.small", 2, "8.1", "sun:05:00-sun:06:00"
		})
		s.eventually(ctx, func(g Gomega) {
			s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			group := s.group(ctx)
			g.Expect(group.Status.State).To(Equal(ack.GroupAvailable))
			g.Expect(group.Spec.CacheNodeType).To(Equal("cache.t3.small"))
			g.Expect(group.Spec.EngineVersion).To(Equal("8.1"))
			g.Expect(group.Spec.PreferredMaintenanceWindow).To(Equal("sun:05:00-sun:06:00"))
			g.Expect(group.Status.MemberClusters).To(HaveLen(3))
		})
		Expect(s.group(ctx).UID).To(Equal(before.UID))
		Expect(player.Groups()).To(ContainElement(id))
		s.isDeleted(ctx)
	})

	It("stays healthy while AWS backs it up and fails it over", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		id := s.group(ctx).Spec.ReplicationGroupID
		ready := func(g Gomega) {
			s.look(ctx, g)
			s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}

		Expect(player.Snapshotting(id, 2*time.Second)).To(Succeed())
		Expect(player.Resync(ctx)).To(Succeed())
		Consistently(ctx, ready).WithTimeout(4 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())
		Expect(player.Failover(ctx, id)).To(Succeed())
		Consistently(ctx, ready).WithTimeout(4 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())
		s.isDeleted(ctx)
	})

	It("goes with the revision that was to use it, and the cache before stays", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		fc.Spec.Canary.Steps = []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: time.Hour}}}
		s.comesUp(ctx, fc)
		before, published := s.group(ctx), get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data

		original := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Spec.Cache
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Cache.ElastiCache.Engine, fc.Spec.Cache.ElastiCache.EngineVersion = v1alpha1.EngineRedis, "7.1"
		})
		s.eventually(ctx, func(g Gomega) {
			s.says(g, ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionTrue, v1alpha1.ReasonCanaryProgressing)
		})
		Expect(player.Groups()).To(HaveLen(2))
		s.annotate(ctx, v1alpha1.AnnotationAbort, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Candidate)
		s.eventually(ctx, func(g Gomega) {
			s.provisioned(g, ctx, metav1.ConditionTrue, v1alpha1.ReasonReplacementRejected)
			s.says(g, ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
			g.Expect(player.Groups()).To(Equal([]string{before.Spec.ReplicationGroupID}))
		})
		s.says(Default, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data).To(Equal(published))

		By("taking the change back")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache = original })
		s.becomesReady(ctx)
		Expect(s.group(ctx).UID).To(Equal(before.UID))
		s.isDeleted(ctx)
	})

	It("takes over from a Redis in the cluster that nobody reaches", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		elastiCache := fc.Spec.Cache
		fc.Spec.Cache = v1alpha1.CacheSpec{}
		s.create(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			fc := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo")
			g.Expect(meta.IsStatusConditionFalse(fc.Status.Conditions, v1alpha1.ConditionCacheHealthy)).To(BeTrue(), "%v", fc.Status.Conditions)
			s.says(g, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		})
		get(ctx, s.stage, &appsv1.StatefulSet{}, "demo-redis")

		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache = elastiCache })
		s.becomesReady(ctx)
		s.expectMatchingTokens(ctx)
		s.expectGone(ctx, &appsv1.StatefulSet{}, "demo-redis")
		s.isDeleted(ctx)
	})

	It("says that ACK is stuck, serves meanwhile, and goes on when ACK does", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		player.Pause()
		DeferCleanup(player.Resume)
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.NodeType = "cache.t3.small" })
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Spec.CacheNodeType).To(Equal("cache.t3.small"))
			c := s.says(g, ctx, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonModifying)
			g.Expect(c.ObservedGeneration).To(BeEquivalentTo(2))
		})

		By("waiting for five minutes")
		s.Clock = ahead(6 * time.Minute)
		s.eventually(ctx, func(g Gomega) {
			c := s.provisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonACKNotResponding)
			g.Expect(c.Message).To(ContainSubstring("elasticache-controller runs and watches this namespace"))
			s.says(g, ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
			s.says(g, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		})

		s.Clock = clock.RealClock{}
		player.Resume()
		s.becomesReady(ctx)
		Expect(get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.State).To(Equal(ack.GroupAvailable))
		s.isDeleted(ctx)
	})

	It("notices when ACK makes anew what somebody deleted in AWS", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.comesUp(ctx, s.anElastiCache())
		before := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.CreatedAt
		told := s.Events.(*events.FakeRecorder).Events
		for len(told) > 0 {
			<-told
		}

		Expect(player.DeleteOutOfBand(s.group(ctx).Spec.ReplicationGroupID)).To(Succeed())
		Expect(player.Resync(ctx)).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			s.look(ctx, g)
			g.Expect(get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.CreatedAt).NotTo(Equal(before))
			s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		})
		Eventually(told).Should(Receive(ContainSubstring(v1alpha1.ReasonRecreated)))
		s.isDeleted(ctx)
	})

	It("is deleted and made again when AWS fails to make it", func(ctx context.Context) {
		s := newCloud(ctx, player)
		group := s.asks(ctx, player)
		player.Refuse(ackplayer.Create, group.Spec.ReplicationGroupID, ackplayer.CreateFailed, 1)
		player.Resume()
		s.eventually(ctx, func(g Gomega) {
			s.provisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonCreateFailed)
			g.Expect(player.Groups()).NotTo(ContainElement(group.Spec.ReplicationGroupID))
		})
		By("letting the pause pass that is kept before it is tried again")
		s.Clock = ahead(2 * time.Minute)
		s.becomesReady(ctx)
		Expect(happened(player, group, 0)).To(Equal([]string{"Create ReplicationGroup", "Delete ReplicationGroup", "Create ReplicationGroup"}))
		s.isDeleted(ctx)
	})

	It("is not made where it costs more than it may", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		fc.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: 1, WhenExceeded: v1alpha1.BudgetRefuse}
		s.create(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRegionUnknown)
		})

		By("saying where")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.Region = "eu-west-1" })
		s.eventually(ctx, func(g Gomega) {
			c := s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded)
			g.Expect(c.Message).To(ContainSubstring("more than the budget of 1.00"))
		})
		groups := &ack.ReplicationGroupList{}
		Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
		Expect(groups.Items).To(BeEmpty())

		By("raising the budget")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Budget.MonthlyUSD = 1000 })
		s.becomesReady(ctx)
		s.isDeleted(ctx)
	})

	It("has a network, parameters and alarms of its own, made before it and deleted after it", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.anElastiCache()
		e := fc.Spec.Cache.ElastiCache
		e.SubnetIDs = []v1alpha1.SubnetID{"subnet-0a", "subnet-0b"}
		e.VPCID, e.ClientSecurityGroupIDs = "vpc-0a", []v1alpha1.SecurityGroupID{"sg-0a"}
		e.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "allkeys-lru"}
		e.Alarms = &v1alpha1.AlarmsSpec{TopicARN: "arn:aws:sns:eu-west-1:123456789012:ops"}
		s.comesUp(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			s.says(g, ctx, v1alpha1.ConditionAlarmsConfigured, metav1.ConditionTrue, v1alpha1.ReasonConfigured)
		})
		group := s.group(ctx)
		security := get(ctx, s.stage, &ack.SecurityGroup{}, group.Name)
		Expect(group.Spec.SecurityGroupIDs).To(Equal([]string{security.Status.ID}))
		s.expectLeftAlone(ctx)
		made := happened(player, group, 0)
		Expect(made[len(made)-1]).To(Equal("Create MetricAlarm"))
		Expect(made).To(ContainElements("Create CacheSubnetGroup", "Create CacheParameterGroup", "Create SecurityGroup", "Create ReplicationGroup"))

		calls := len(player.Calls())
		s.isDeleted(ctx)
		gone := happened(player, group, calls)
		Expect(gone[:2]).To(Equal([]string{"Delete MetricAlarm", "Delete ReplicationGroup"}))
		Expect(gone[2:]).To(ConsistOf("Delete CacheSubnetGroup", "Delete CacheParameterGroup", "Delete SecurityGroup"))
	})

	It("says in words what AWS refuses for good", func(ctx context.Context) {
		s := newCloud(ctx, player)
		player.Refuse(ackplayer.Create, s.asks(ctx, player).Spec.ReplicationGroupID, "ClusterQuotaForCustomerExceeded", 1)
		player.Resume()
		s.eventually(ctx, func(g Gomega) {
			c := s.provisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonAWSQuotaExceeded)
			g.Expect(c.Message).To(And(ContainSubstring("ReplicationGroup demo-"), ContainSubstring("Next: ")))
		})
		s.isDeleted(ctx)
	})
})
