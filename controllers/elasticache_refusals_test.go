// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/awsplayer"
)

// With ACK's own controller and an AWS that refuses.
var _ = Describe("A FlagCache that AWS refuses", Ordered, func() {
	var player aws
	BeforeAll(func(ctx context.Context) { player = startAWS(ctx) })

	It("reports what AWS refuses while the group serves, and continues by the spec and by reconcile-at", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		id := *s.group(ctx).Spec.ReplicationGroupID
		player.Inject(awsplayer.Fault{Action: "ModifyReplicationGroup", ID: id, Code: "AccessDenied", Message: "not authorized", Times: 1000})
		DeferCleanup(player.ClearFaults)
		requestNodes := func(nodeType string) {
			edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.NodeType = nodeType })
		}
		original := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Spec.Cache.ElastiCache.NodeType
		requestNodes("cache.t3.small")
		s.eventually(ctx, func(g Gomega) {
			c := s.expectProvisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonAWSAccessDenied)
			g.Expect(c.Message).To(ContainSubstring("AccessDenied: not authorized. Next: give the IAM role"))
			s.expectCondition(g, ctx, v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
			s.expectCondition(g, ctx, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonAWSAccessDenied)
		})

		By("reverting the change")
		requestNodes(original)
		s.expectReady(ctx)
		player.ClearFaults()

		By("requesting other nodes, which AWS rolls back")
		requests := modifications(player, id)
		player.Inject(awsplayer.Fault{Action: "ModifyReplicationGroup", ID: id, Code: awsplayer.RolledBack})
		requestNodes("cache.t3.medium")
		s.eventually(ctx, func(g Gomega) {
			c := s.expectProvisioned(g, ctx, metav1.ConditionFalse, v1alpha1.ReasonAWSRejected)
			g.Expect(c.Message).To(ContainSubstring("Cannot update CacheNodeType (Modification of replication group"))
		})

		By("requesting a reconcile, with which they are requested again")
		s.annotate(ctx, v1alpha1.AnnotationReconcileAt, "1")
		s.expectReady(ctx)
		Expect(modifications(player, id)).To(Equal(requests + 2))

		By("requesting an engine that AWS rejects, in an edit that is reverted")
		version := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Spec.Cache.ElastiCache.EngineVersion
		requestVersion := func(version string) {
			edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.EngineVersion = version })
		}
		player.Inject(awsplayer.Fault{Action: "ModifyReplicationGroup", ID: id, Code: "InvalidParameterValue", Message: "Cannot find version 8.9."})
		requestVersion("8.9")
		s.eventually(ctx, func(g Gomega) {
			s.expectCondition(g, ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAWSRejected)
		})
		requestVersion(version)
		s.expectReady(ctx)

		By("rotating the token, which AWS refuses once")
		before := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]
		player.Inject(awsplayer.Fault{Action: "ModifyReplicationGroup", ID: id, Code: "InvalidParameterValue", Message: "not now"})
		s.annotate(ctx, v1alpha1.AnnotationRotateToken, "1")
		s.eventually(ctx, func(g Gomega) {
			s.expectCondition(g, ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAWSRejected)
		})
		s.annotate(ctx, v1alpha1.AnnotationReconcileAt, "2")
		s.eventually(ctx, func(g Gomega) {
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).NotTo(Equal(before))
		})
		s.expectReady(ctx)
		s.expectMatchingTokens(ctx)
		s.deleteFlagCache(ctx)
	})
})
