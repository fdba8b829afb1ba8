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
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/awsplayer"
)

// With ACK's own controller, and real Redis servers that a real prober probes.
var _ = Describe("A FlagCache in ElastiCache", Ordered, func() {
	var player aws
	BeforeAll(func(ctx context.Context) { player = startAWS(ctx) })

	It("publishes a probed connection to a group whose spec ACK does not change", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		group := s.group(ctx)
		token := get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+group.Labels[v1alpha1.LabelCache]).Data["token"]
		published := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data
		Expect(token).To(HaveLen(64))
		Expect(published["password"]).To(Equal(token))
		Expect(string(published["host"])).To(Equal(*ack.PrimaryEndpoint(group).Address))
		Expect(string(published["port"])).To(Equal(fmt.Sprint(*ack.PrimaryEndpoint(group).Port)))
		Expect(string(published["tls"])).To(Equal("true"))

		s.expectUnchangedSpec(ctx)
		for range 5 {
			s.reconcile(ctx)
			Expect(s.writes).To(BeEmpty())
		}
		By("removing the hash, which applies the group again")
		edit(ctx, s.stage, group, group.Name, func(g *ack.ReplicationGroup) { delete(g.Annotations, v1alpha1.AnnotationApplied) })
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Annotations).To(HaveKey(v1alpha1.AnnotationApplied))
		})
		s.expectSynced(ctx)
		s.settle(ctx)
		s.expectUnchangedSpec(ctx)
	})

	It("rotates the token on request, and publishes it when it works", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		before := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]
		// ACK's times have a resolution of seconds: a sync in the second of the change would
		// be ambiguous.
		s.expectSynced(ctx)
		By("pausing ACK")
		player.pauseACK()
		s.annotate(ctx, v1alpha1.AnnotationRotateToken, "please")
		id := s.group(ctx).Labels[v1alpha1.LabelCache]
		s.eventually(ctx, func(g Gomega) {
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+id).Data["token"]).NotTo(Equal(before))
		})
		Consistently(ctx, func(g Gomega) {
			s.reconcileOnce(ctx, g)
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).To(Equal(before), "the old token works and the new one does not")
			s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}).WithTimeout(4 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())

		player.resumeACK()
		s.eventually(ctx, func(g Gomega) {
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).NotTo(Equal(before))
		})
		s.expectReady(ctx)
		s.expectMatchingTokens(ctx)
		Expect(modifications(player, *s.group(ctx).Spec.ReplicationGroupID)).To(Equal(1), "AWS receives one token")
	})

	It("deletes its cache when it is deleted", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		id := *s.group(ctx).Spec.ReplicationGroupID
		Expect(player.Groups()).To(ContainElement(id))
		s.deleteFlagCache(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("reports why AWS does not delete its cache, and is deleted after the cache", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		id := *s.group(ctx).Spec.ReplicationGroupID
		player.Inject(awsplayer.Fault{Action: "DeleteReplicationGroup", ID: id, Code: "InvalidReplicationGroupState", Times: 10})
		Expect(k8s.Delete(ctx, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			c := s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
			g.Expect(c.Message).To(And(ContainSubstring("ReplicationGroup demo-"), ContainSubstring("AWS refuses: InvalidReplicationGroupState")))
		})
		s.expectDeleted(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("retains its cache when it is deleted, and adopts it when it is recreated", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
		s.createReady(ctx, fc)
		id := *s.group(ctx).Spec.ReplicationGroupID
		s.expectUnchangedSpec(ctx)

		By("deleting the ACK resource first, like the deletion of its namespace")
		Expect(k8s.Delete(ctx, s.group(ctx))).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			g.Expect(s.groups(ctx)).To(BeEmpty())
		}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
		s.deleteFlagCache(ctx)
		Expect(player.Groups()).To(ContainElement(id))

		By("recreating it")
		s.create(ctx, s.elastiCacheFlagCache())
		s.eventually(ctx, func(g Gomega) {
			s.expectProvisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonAlreadyExists)
		})
		s.annotate(ctx, v1alpha1.AnnotationAdopt, id)
		s.eventually(ctx, func(g Gomega) {
			s.expectProvisioned(g, ctx, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
		})
		s.expectReady(ctx)
		Expect(*s.group(ctx).Spec.ReplicationGroupID).To(Equal(id))
		s.expectMatchingTokens(ctx)
		s.deleteFlagCache(ctx)
	})

	It("leaves the group of another FlagCache as it is", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
		s.createReady(ctx, fc)
		id := *s.group(ctx).Spec.ReplicationGroupID
		s.deleteFlagCache(ctx)
		Expect(player.TagOutOfBand(id, "flagcache.dev/name", "another")).To(Succeed())
		before := len(player.Calls())

		By("requesting its adoption")
		fc = s.elastiCacheFlagCache()
		fc.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id}
		s.create(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			c := s.expectCondition(g, ctx, v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonAlreadyExists)
			g.Expect(c.Message).To(ContainSubstring("do not name this FlagCache"))
		})
		for range 5 {
			s.reconcile(ctx)
			Expect(s.writes).To(BeEmpty())
		}
		s.deleteFlagCache(ctx)
		Expect(player.Groups()).To(ContainElement(id))
		for _, call := range player.Calls()[before:] {
			Expect(call.Mutating() && call.ID == id).To(BeFalse(), "AWS was asked for %s of the group of another", call.Action)
		}
		Expect(player.DeleteOutOfBand(id)).To(Succeed())
	})

	It("keeps the ID of its cache in a cluster with another name", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		group := s.group(ctx)
		id := *group.Spec.ReplicationGroupID
		By("renaming the cluster")
		s.Operator.ClusterID = "cluster-2"
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Spec.Tags).To(ContainElement(&ack.Tag{Key: ptr.To("flagcache.dev/cluster"), Value: ptr.To("cluster-2")}))
			s.expectProvisioned(g, ctx, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
		})
		s.expectReady(ctx)
		Expect(*s.group(ctx).Spec.ReplicationGroupID).To(Equal(id))
		Expect(s.group(ctx).UID).To(Equal(group.UID))
		s.deleteFlagCache(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("sets the deletion policy of ACK as long as its own is Retain", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
		s.createReady(ctx, fc)
		id := *s.group(ctx).Spec.ReplicationGroupID
		Expect(s.group(ctx).Annotations).To(HaveKeyWithValue(ack.AnnotationDeletionPolicy, ack.DeletionRetain))
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.DeletionPolicy = v1alpha1.DeletionDelete })
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Annotations).NotTo(HaveKey(ack.AnnotationDeletionPolicy))
		})
		s.expectUnchangedSpec(ctx)
		s.deleteFlagCache(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id))
	})

	It("is deleted only after its last snapshot was taken", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		s.createReady(ctx, fc)
		group := s.group(ctx)
		calls := len(player.Calls())

		By("pausing ACK")
		player.pauseACK()
		Expect(k8s.Delete(ctx, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			c := s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
			g.Expect(c.Message).To(ContainSubstring("the last snapshot to be taken"))
		})
		for range 5 {
			s.reconcile(ctx)
		}
		Expect(s.group(ctx).DeletionTimestamp).To(BeNil())
		snapshot := get(ctx, s.stage, &ack.Snapshot{}, group.Name)
		Expect(group.Status.MemberClusters).To(ContainElement(snapshot.Spec.CacheClusterID))

		player.resumeACK()
		s.deleteFlagCache(ctx)
		Expect(changesOf(player, group, calls)).To(Equal([]string{"CreateSnapshot", "DeleteReplicationGroup"}), "the snapshot is kept")
		Expect(player.Groups()).NotTo(ContainElement(*group.Spec.ReplicationGroupID))
	})

	It("authenticates pods with IAM, and the probe with its own user", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
		s.createReady(ctx, fc)
		group := s.group(ctx)
		id := *group.Spec.ReplicationGroupID
		Expect(changesOf(player, group, 0)).To(Equal([]string{"CreateUser", "CreateUserGroup", "CreateReplicationGroup"}))
		Expect(group.Spec.UserGroupIDs).To(Equal(ack.Pointers(id)))
		Expect(group.Spec.AuthToken).To(BeNil())
		s.expectUnchangedSpec(ctx)
		published := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data
		Expect(published).NotTo(HaveKey("password"))
		Expect([]string{string(published["username"]), string(published["iam-cache"]), string(published["iam-region"])}).To(Equal([]string{id, id, ackcontroller.Region}))

		By("losing the Secret with the password of the probe")
		users := get(ctx, s.stage, &ack.UserGroup{}, group.Name).Spec.UserIDs
		calls := len(player.Calls())
		Expect(k8s.Delete(ctx, get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+group.Labels[v1alpha1.LabelCache]))).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			others := get(ctx, s.stage, &ack.UserGroup{}, group.Name).Spec.UserIDs
			g.Expect(others).To(And(HaveLen(len(users)), Not(Equal(users))))
		})
		s.eventually(ctx, func(g Gomega) {
			g.Expect(changesOf(player, group, calls)).To(Equal([]string{"CreateUser", "ModifyUserGroup", "DeleteUser"}))
		})
		s.expectReady(ctx)
		Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data).To(Equal(published), "pods are not affected")

		calls = len(player.Calls())
		s.deleteFlagCache(ctx)
		Expect(changesOf(player, group, calls)).To(Equal([]string{"DeleteReplicationGroup", "DeleteUserGroup", "DeleteUser"}))
	})

	It("is changed one class at a time, without affecting clients", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		before := s.group(ctx)
		id := *before.Spec.ReplicationGroupID

		By("changing nodes, replicas, the engine and a window at once")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			e := fc.Spec.Cache.ElastiCache
			e.NodeType, e.Replicas, e.EngineVersion, e.MaintenanceWindow = "cache.t3.small", 2, "8.1", "sun:05:00-sun:06:00"
		})
		s.eventually(ctx, func(g Gomega) {
			s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			group := s.group(ctx)
			g.Expect(ack.GroupState(group)).To(Equal(ack.GroupAvailable))
			g.Expect(group.Spec.CacheNodeType).To(HaveValue(Equal("cache.t3.small")))
			g.Expect(group.Spec.EngineVersion).To(HaveValue(Equal("8.1")))
			g.Expect(group.Spec.PreferredMaintenanceWindow).To(HaveValue(Equal("sun:05:00-sun:06:00")))
			g.Expect(group.Status.MemberClusters).To(HaveLen(3))
		})
		Expect(s.group(ctx).UID).To(Equal(before.UID))
		Expect(player.Groups()).To(ContainElement(id))
		s.deleteFlagCache(ctx)
	})

	It("stays healthy during a snapshot and a failover", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		id := *s.group(ctx).Spec.ReplicationGroupID
		ready := func(g Gomega) {
			s.reconcileOnce(ctx, g)
			s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}

		Expect(player.Snapshotting(id, 2*time.Second)).To(Succeed())
		Consistently(ctx, ready).WithTimeout(4 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())
		Expect(player.Failover(ctx, id)).To(Succeed())
		Consistently(ctx, ready).WithTimeout(4 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())
		s.deleteFlagCache(ctx)
	})

	It("is deleted with a rejected revision, and the previous cache stays", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.Canary.Steps = []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: time.Hour}}}
		s.createReady(ctx, fc)
		before, published := s.group(ctx), get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data

		original := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Spec.Cache
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Cache.ElastiCache.Engine, fc.Spec.Cache.ElastiCache.EngineVersion = v1alpha1.EngineRedis, "7.1"
		})
		s.eventually(ctx, func(g Gomega) {
			s.expectCondition(g, ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionTrue, v1alpha1.ReasonCanaryProgressing)
		})
		Expect(player.Groups()).To(HaveLen(2))
		s.annotate(ctx, v1alpha1.AnnotationAbort, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Candidate)
		s.eventually(ctx, func(g Gomega) {
			s.expectProvisioned(g, ctx, metav1.ConditionTrue, v1alpha1.ReasonReplacementRejected)
			s.expectCondition(g, ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
			g.Expect(player.Groups()).To(Equal([]string{*before.Spec.ReplicationGroupID}))
			g.Expect(s.groups(ctx)).To(HaveLen(1))
		})
		s.expectCondition(Default, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data).To(Equal(published))

		By("reverting the change")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache = original })
		s.expectReady(ctx)
		Expect(s.group(ctx).UID).To(Equal(before.UID))
		s.deleteFlagCache(ctx)
	})

	It("replaces an unreachable Redis in the cluster", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		elastiCache := fc.Spec.Cache
		fc.Spec.Cache = v1alpha1.CacheSpec{}
		s.create(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			fc := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo")
			g.Expect(meta.IsStatusConditionFalse(fc.Status.Conditions, v1alpha1.ConditionCacheHealthy)).To(BeTrue(), "%v", fc.Status.Conditions)
			s.expectCondition(g, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		})
		get(ctx, s.stage, &appsv1.StatefulSet{}, "demo-redis")

		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache = elastiCache })
		s.expectReady(ctx)
		s.expectMatchingTokens(ctx)
		s.expectGone(ctx, &appsv1.StatefulSet{}, "demo-redis")
		s.deleteFlagCache(ctx)
	})

	It("reports that ACK does not respond, and continues when it does", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		player.pauseACK()
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.NodeType = "cache.t3.small" })
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Spec.CacheNodeType).To(HaveValue(Equal("cache.t3.small")))
			c := s.expectCondition(g, ctx, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonModifying)
			g.Expect(c.ObservedGeneration).To(BeEquivalentTo(2))
		})

		By("waiting for five minutes")
		s.Clock = fastClock(6 * time.Minute)
		s.eventually(ctx, func(g Gomega) {
			c := s.expectProvisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonACKNotResponding)
			g.Expect(c.Message).To(ContainSubstring("elasticache-controller is running and watches this namespace"))
			s.expectCondition(g, ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
			s.expectCondition(g, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
		})

		s.Clock = clock.RealClock{}
		player.resumeACK()
		s.eventually(ctx, func(g Gomega) {
			g.Expect(modifications(player, *s.group(ctx).Spec.ReplicationGroupID)).To(Equal(1))
			g.Expect(get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.State).To(Equal(ack.GroupAvailable))
		})
		s.expectReady(ctx)
		s.deleteFlagCache(ctx)
	})

	It("reports that ACK recreated a group that was deleted in AWS", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		before := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.CreatedAt
		recorded := s.Events.(*events.FakeRecorder).Events
		for len(recorded) > 0 {
			<-recorded
		}

		Expect(player.DeleteOutOfBand(*s.group(ctx).Spec.ReplicationGroupID)).To(Succeed())
		s.eventually(ctx, func(g Gomega) {
			s.reconcileOnce(ctx, g)
			g.Expect(get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.CreatedAt).NotTo(Equal(before))
			s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
		})
		Eventually(recorded).Should(Receive(ContainSubstring(v1alpha1.ReasonRecreated)))
		s.deleteFlagCache(ctx)
	})

	It("is deleted and recreated when its creation fails", func(ctx context.Context) {
		s := newCloud(ctx, player)
		group := s.createPaused(ctx, player)
		player.Inject(awsplayer.Fault{Action: "CreateReplicationGroup", ID: *group.Spec.ReplicationGroupID, Code: awsplayer.CreateFailed})
		player.resumeACK()
		s.eventually(ctx, func(g Gomega) {
			s.expectProvisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonCreateFailed)
			g.Expect(player.Groups()).NotTo(ContainElement(*group.Spec.ReplicationGroupID))
		})
		By("advancing the clock past the retry delay")
		s.Clock = fastClock(2 * time.Minute)
		s.expectReady(ctx)
		Expect(changesOf(player, group, 0)).To(Equal([]string{"CreateReplicationGroup", "DeleteReplicationGroup", "CreateReplicationGroup"}))
		s.deleteFlagCache(ctx)
	})

	It("is not created if it exceeds the budget", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		fc.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: 1, WhenExceeded: v1alpha1.BudgetRefuse}
		s.create(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRegionUnknown)
		})

		By("setting the region")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.Region = ackcontroller.Region })
		s.eventually(ctx, func(g Gomega) {
			c := s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBudgetExceeded)
			g.Expect(c.Message).To(ContainSubstring("more than the budget of 1.00"))
		})
		Expect(s.groups(ctx)).To(BeEmpty())

		By("raising the budget")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Budget.MonthlyUSD = 1000 })
		s.expectReady(ctx)
		s.deleteFlagCache(ctx)
	})

	It("has its own network, parameters and alarms, created before and deleted after it", func(ctx context.Context) {
		s := newCloud(ctx, player)
		fc := s.elastiCacheFlagCache()
		e := fc.Spec.Cache.ElastiCache
		e.SubnetIDs = []v1alpha1.SubnetID{"subnet-0a", "subnet-0b"}
		e.VPCID, e.ClientSecurityGroupIDs = "vpc-0a", []v1alpha1.SecurityGroupID{"sg-0a"}
		e.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "allkeys-lru"}
		e.Alarms = &v1alpha1.AlarmsSpec{TopicARN: "arn:aws:sns:eu-west-1:123456789012:ops"}
		s.createReady(ctx, fc)
		s.eventually(ctx, func(g Gomega) {
			s.expectCondition(g, ctx, v1alpha1.ConditionAlarmsConfigured, metav1.ConditionTrue, v1alpha1.ReasonConfigured)
		})
		group := s.group(ctx)
		security := get(ctx, s.stage, &ack.SecurityGroup{}, group.Name)
		Expect(group.Spec.SecurityGroupIDs).To(Equal([]*string{security.Status.ID}))
		s.expectUnchangedSpec(ctx)
		created := s.ackKinds("create")
		Expect(created[len(created)-2:]).To(Equal([]string{"ReplicationGroup", "MetricAlarm"}))
		Expect(created[:len(created)-2]).To(ConsistOf("CacheSubnetGroup", "CacheParameterGroup", "SecurityGroup"))
		changes := changesOf(player, group, 0)
		Expect(changes[len(changes)-1]).To(Equal("CreateReplicationGroup"))
		Expect(changes).To(ContainElements("CreateCacheSubnetGroup", "CreateCacheParameterGroup", "ModifyCacheParameterGroup"))

		calls := len(player.Calls())
		s.deleteFlagCache(ctx)
		deleted := s.ackKinds("delete")
		Expect(deleted[:2]).To(Equal([]string{"MetricAlarm", "ReplicationGroup"}))
		Expect(deleted[2:]).To(ConsistOf("CacheSubnetGroup", "CacheParameterGroup", "SecurityGroup"))
		changes = changesOf(player, group, calls)
		Expect(changes[0]).To(Equal("DeleteReplicationGroup"))
		Expect(changes[1:]).To(ConsistOf("DeleteCacheSubnetGroup", "DeleteCacheParameterGroup"))
	})

	It("explains a terminal error of AWS", func(ctx context.Context) {
		s := newCloud(ctx, player)
		id := *s.createPaused(ctx, player).Spec.ReplicationGroupID
		player.Inject(awsplayer.Fault{Action: "CreateReplicationGroup", ID: id, Code: "ClusterQuotaForCustomerExceeded"})
		player.resumeACK()
		s.eventually(ctx, func(g Gomega) {
			c := s.expectProvisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonAWSQuotaExceeded)
			g.Expect(c.Message).To(And(ContainSubstring("ReplicationGroup demo-"), ContainSubstring("Next: ")))
		})
		s.deleteFlagCache(ctx)
	})
})
