// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackcrds"
)

// Serial, because the kinds are installed for the whole cluster.
var _ = Describe("A FlagCache in ElastiCache with resources in EC2 and CloudWatch", Serial, func() {
	BeforeEach(func(ctx context.Context) {
		Expect(local.DeployAWS(ctx)).To(Succeed())
		Expect(local.DeployACK(ctx)).To(Succeed())
		Expect(ackcrds.Install(ctx, local.Client)).To(Succeed())
		Expect(local.TrustAWS(ctx)).To(Succeed())
	})

	It("creates its network, parameters and alarms, changes them, and deletes them with the cache", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		created(ctx, someFlags(namespace))
		before := inventory(ctx, namespace)
		fc := aFlagCache(namespace, "full", inElastiCache, func(spec *v1alpha1.FlagCacheSpec) {
			e := spec.Cache.ElastiCache
			e.SubnetIDs = []v1alpha1.SubnetID{"subnet-0a", "subnet-0b"}
			e.VPCID, e.ClientSecurityGroupIDs = "vpc-0a", []v1alpha1.SecurityGroupID{"sg-0a"}
			e.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "allkeys-lru"}
			e.Alarms = &v1alpha1.AlarmsSpec{CPUPercent: 60, TopicARN: "arn:aws:sns:eu-west-1:123456789012:ops"}
		})
		created(ctx, fc)
		// eventually plays ACK's other controllers until a condition holds.
		eventually := func(holds func(g Gomega)) {
			GinkgoHelper()
			Eventually(ctx, func(g Gomega) {
				otherKindsReady(ctx, g, namespace)
				holds(g)
			}).WithTimeout(rolledOut).Should(Succeed())
		}
		eventually(func(g Gomega) {
			g.Expect(read(ctx, fc)).To(haveCondition(v1alpha1.ConditionAlarmsConfigured, metav1.ConditionTrue, v1alpha1.ReasonConfigured))
			g.Expect(fc).To(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady))
		})

		By("tagging everything, and allowing other clients")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) {
			e := fc.Spec.Cache.ElastiCache
			e.Tags = map[string]v1alpha1.TagValue{"team": "shop"}
			e.ClientSecurityGroupIDs = []v1alpha1.SecurityGroupID{"sg-0b"}
			e.Alarms.CPUPercent = 70
		})
		eventually(func(g Gomega) {
			for _, list := range []client.ObjectList{
				&ack.SecurityGroupList{}, &ack.CacheSubnetGroupList{}, &ack.CacheParameterGroupList{}, &ack.ReplicationGroupList{}, &ack.MetricAlarmList{},
			} {
				g.Expect(local.Client.List(ctx, list, client.InNamespace(namespace))).To(Succeed())
				text, err := json.Marshal(list)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(string(text)).To(ContainSubstring(`"shop"`), "%T", list)
			}
			g.Expect(read(ctx, fc)).To(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady))
		})

		By("removing its alarms")
		changed(ctx, fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.Alarms = nil })
		eventually(func(g Gomega) {
			alarms := &ack.MetricAlarmList{}
			g.Expect(local.Client.List(ctx, alarms, client.InNamespace(namespace))).To(Succeed())
			g.Expect(alarms.Items).To(BeEmpty())
		})

		By("deleting it")
		Expect(local.Client.Delete(ctx, fc)).To(Succeed())
		expectDeleted(ctx, fc)
		expectNothingLeft(ctx, namespace, before)
	}, SpecTimeout(rolledOut))
})

// otherKindsReady acts as ACK's ec2-controller and cloudwatch-controller.
func otherKindsReady(ctx context.Context, g Gomega, namespace string) {
	now := metav1.Now()
	synced := []*ack.Condition{
		{Type: ack.ConditionSynced, Status: corev1.ConditionTrue, LastTransitionTime: &now},
		{Type: ack.ConditionReady, Status: corev1.ConditionTrue, LastTransitionTime: &now},
	}
	security := &ack.SecurityGroupList{}
	g.Expect(local.Client.List(ctx, security, client.InNamespace(namespace))).To(Succeed())
	for i := range security.Items {
		group := &security.Items[i]
		group.Status.ID, group.Status.Conditions = ptr.To("sg-0c"), synced
		g.Expect(local.Client.Status().Update(ctx, group)).To(Succeed())
	}
	alarms := &ack.MetricAlarmList{}
	g.Expect(local.Client.List(ctx, alarms, client.InNamespace(namespace))).To(Succeed())
	for i := range alarms.Items {
		alarms.Items[i].Status.Conditions = synced
		g.Expect(local.Client.Status().Update(ctx, &alarms.Items[i])).To(Succeed())
	}
}
