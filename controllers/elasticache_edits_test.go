// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

var _ = Describe("A replication group that somebody edits", Ordered, func() {
	var player aws
	BeforeAll(func(ctx context.Context) { player = startAWS(ctx) })

	It("remains the cache when its object names another", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		id := *s.group(ctx).Spec.ReplicationGroupID
		published := get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data

		By("changing its ID, for which ACK creates another group")
		s.editGroup(ctx, `{"replicationGroupID": "another"}`)
		DeferCleanup(func() { Expect(player.Groups()).To(ContainElement("another"), "AWS has both") })
		Eventually(ctx, func(g Gomega) {
			g.Expect(ack.GroupID(ptr.To(s.groups(ctx)[0]))).To(Equal("another"))
			g.Expect(ack.PrimaryEndpoint(ptr.To(s.groups(ctx)[0]))).NotTo(BeNil())
		}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Spec.ReplicationGroupID).To(HaveValue(Equal(id)))
		})
		s.eventually(ctx, func(g Gomega) {
			g.Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data).To(Equal(published), "clients keep the cache")
			g.Expect(ack.GroupID(s.group(ctx))).To(Equal(id))
		})
		s.expectReady(ctx)
		Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data).To(Equal(published))
		Expect(get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo").Status.Cache.ReplicationGroupID).To(Equal(id))

		By("changing its ID again, and deleting the FlagCache")
		s.editGroup(ctx, `{"replicationGroupID": "another"}`)
		s.deleteFlagCache(ctx)
		Expect(player.Groups()).NotTo(ContainElement(id), "it is not left in AWS")
	})

	It("gets back every field that no change of the FlagCache changes", func(ctx context.Context) {
		s := newCloud(ctx, player)
		s.createReady(ctx, s.elastiCacheFlagCache())
		want := s.group(ctx).Spec
		for _, patch := range []string{
			`{"transitEncryptionEnabled": false}`,
			`{"numNodeGroups": 2}`,
			`{"engine": "redis"}`,
			`{"dataTieringEnabled": true}`,
			`{"authToken": {"namespace": "default"}}`,
			`{"authToken": null}`,
			`{"cacheParameterGroupRef": {"from": {"name": "none"}}}`,
			`{"primaryClusterID": "none", "notificationTopicARN": "arn:aws:sns:us-east-1:1:none"}`,
			`{"preferredMaintenanceWindow": "sun:05:00-sun:06:00"}`,
		} {
			By(patch)
			s.editGroup(ctx, patch)
			s.eventually(ctx, func(g Gomega) {
				spec := s.group(ctx).Spec
				spec.Description = want.Description
				g.Expect(spec).To(Equal(want))
			})
		}
		s.expectReady(ctx)

		By("changing the FlagCache")
		edit(ctx, s.stage, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Cache.ElastiCache.Tags = map[string]v1alpha1.TagValue{"team": "shop"}
		})
		s.eventually(ctx, func(g Gomega) {
			g.Expect(s.group(ctx).Spec.Tags).To(ContainElement(&ack.Tag{Key: ptr.To("team"), Value: ptr.To("shop")}))
		})
		s.expectReady(ctx)
		s.deleteFlagCache(ctx)
	})
})

// editGroup changes fields of the group's spec, as a person does.
func (s cloud) editGroup(ctx context.Context, spec string) {
	GinkgoHelper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec": `+spec+`}`))
	Expect(k8s.Patch(ctx, s.group(ctx), patch, client.FieldOwner("kubectl-edit"))).To(Succeed())
}
