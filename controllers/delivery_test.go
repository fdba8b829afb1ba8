// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/evidence"
)

// fakeDeliveries returns last for the digest that is watched.
type fakeDeliveries struct {
	last    evidence.Delivery
	watched map[types.NamespacedName]evidence.DeliveryTarget
}

func (d *fakeDeliveries) Watch(key types.NamespacedName, t evidence.DeliveryTarget) {
	d.watched[key] = t
}
func (d *fakeDeliveries) Forget(key types.NamespacedName) { delete(d.watched, key) }
func (d *fakeDeliveries) Last(key types.NamespacedName) (evidence.Delivery, bool) {
	last := d.last
	last.Digest = d.watched[key].Digest
	return last, true
}

var _ = Describe("Pods that serve other flags than the ConfigMap has", func() {
	It("are reported by name, and no longer once the FlagCache is deleted", func(ctx context.Context) {
		s := newStage(ctx)
		deliveries := &fakeDeliveries{watched: map[types.NamespacedName]evidence.DeliveryTarget{}}
		s.Deliveries = deliveries
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		key := requestFor(s).NamespacedName
		digestOf := func(file string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(file))) }
		Expect(deliveries.watched[key].Digest).To(Equal(digestOf(`{"flags": {}}`)))
		Expect(deliveries.watched[key].FlagCache).To(Equal(key))
		Expect(deliveries.watched[key].Revisions).To(HaveLen(1))

		By("making the ConfigMap again, immutable and with other flags")
		Expect(k8s.Delete(ctx, s.flags(""))).To(Succeed())
		again := s.flags(`{"flags":  {}}`)
		again.Immutable = ptr.To(true)
		s.create(ctx, again)
		deliveries.last = evidence.Delivery{Behind: []string{"demo-1", "demo-2"}, More: 3, Since: s.Clock.Now().Add(-time.Minute)}
		s.settle(ctx)
		Expect(deliveries.watched[key].Digest).To(Equal(digestOf(`{"flags":  {}}`)))
		s.settle(ctx)
		c := s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonPodsBehind)
		Expect(c.Message).To(And(ContainSubstring("pods: demo-1, demo-2 and 3 more."), ContainSubstring("is immutable")))

		By("reporting that Redis has the flags of another store")
		deliveries.last = evidence.Delivery{Digest: digestOf(`{"flags":  {}}`), Foreign: true}
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, v1alpha1.ReasonForeignStore)
		Expect(c.Message).To(ContainSubstring("for environment default"))
		deliveries.last.Foreign = false
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)

		By("breaking the flags, which pods do not serve in any case")
		Expect(k8s.Delete(ctx, s.flags(""))).To(Succeed())
		s.create(ctx, s.flags("broken"))
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		Expect(deliveries.watched).To(BeEmpty())
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(o *corev1.ConfigMap) { o.Data["flags.json"] = `{"flags": {}}` })
		s.settle(ctx)
		Expect(deliveries.watched).To(HaveLen(1))
		Expect(k8s.Delete(ctx, s.aFlagCache())).To(Succeed())
		s.settle(ctx)
		Expect(deliveries.watched).To(BeEmpty())
	})
})
