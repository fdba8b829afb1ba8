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
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/plan/source"
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

// fakeBroadcasts keeps the watched targets.
type fakeBroadcasts struct {
	last    broadcast.Result
	watched map[types.NamespacedName]broadcast.Target
}

func (b *fakeBroadcasts) Watch(key types.NamespacedName, t broadcast.Target) { b.watched[key] = t }
func (b *fakeBroadcasts) Pause(key types.NamespacedName)                     { delete(b.watched, key) }
func (b *fakeBroadcasts) Forget(key types.NamespacedName)                    { delete(b.watched, key) }
func (b *fakeBroadcasts) Last(types.NamespacedName) (broadcast.Result, bool) {
	return b.last, b.last.Number > 0
}

// publishedFlags returns the published document and its number.
func publishedFlags(ctx context.Context, s *stage) (document string, number int64) {
	GinkgoHelper()
	configMap := get(ctx, s, &corev1.ConfigMap{}, "demo-published-flags")
	data, current, err := source.ReadPublished(configMap, "flagcache:"+s.namespace+"/demo")
	Expect(err).NotTo(HaveOccurred())
	return string(data), current.Number
}

var _ = Describe("The flags of a FlagCache", func() {
	digestOf := func(file string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(file))) }

	It("are published, and pods that do not serve them are reported by name", func(ctx context.Context) {
		s := newStage(ctx)
		deliveries := &fakeDeliveries{watched: map[types.NamespacedName]evidence.DeliveryTarget{}}
		broadcasts := &fakeBroadcasts{watched: map[types.NamespacedName]broadcast.Target{}}
		s.Deliveries, s.Broadcasts = deliveries, broadcasts
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		key := requestFor(s).NamespacedName
		document, first := publishedFlags(ctx, s)
		Expect(document).To(Equal(`{"flags": {}}`))
		Expect(deliveries.watched[key].Digest).To(Equal(digestOf(document)))
		Expect(deliveries.watched[key].FlagCache).To(Equal(key))
		Expect(deliveries.watched[key].Revisions).To(HaveLen(1))

		toRedis := broadcasts.watched[key]
		Expect(toRedis.Number).To(Equal(first))
		Expect(toRedis.Digest).To(Equal(digestOf(document)))
		Expect(toRedis.Store).To(Equal("flagcache:" + s.namespace + "/demo"))
		Expect(toRedis.Environments).To(Equal([]string{"default"}))
		Expect(toRedis.Redis).To(Equal(s.prober.watched[key]))
		Expect(toRedis.Key.IsEmpty()).To(BeFalse())

		By("making the ConfigMap again, immutable and with other flags")
		Expect(k8s.Delete(ctx, s.flags(""))).To(Succeed())
		again := s.flags(`{"flags":  {}}`)
		again.Immutable = ptr.To(true)
		s.create(ctx, again)
		deliveries.last = evidence.Delivery{Behind: []string{"demo-1", "demo-2"}, More: 3, Since: s.Clock.Now().Add(-time.Hour)}
		s.settle(ctx)
		document, second := publishedFlags(ctx, s)
		Expect(document).To(Equal(`{"flags":  {}}`))
		Expect(second).To(Equal(first + 1))
		Expect(deliveries.watched[key].Digest).To(Equal(digestOf(document)))
		s.settle(ctx)
		c := s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonPodsBehind)
		Expect(c.Message).To(ContainSubstring("pods: demo-1, demo-2 and 3 more."))

		By("reporting that Redis has the flags of another store")
		deliveries.last = evidence.Delivery{Digest: digestOf(`{"flags":  {}}`), Serving: 2, Foreign: true}
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionFalse, v1alpha1.ReasonForeignStore)
		Expect(c.Message).To(ContainSubstring("for environment default"))
		deliveries.last.Foreign = false
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
		status := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Flags
		Expect(status.Number).To(Equal(second))
		Expect(status.Digest).To(Equal(digestOf(document)))
		Expect(status.Pods).To(Equal(int32(2)))
		Expect(status.ServingPods).To(HaveValue(Equal(int32(2))))

		Expect(broadcasts.watched[key].Number).To(Equal(second))
		broadcasts.last = broadcast.Result{Number: second, Reason: "PermissionDenied"}
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionFlagsDelivered, metav1.ConditionTrue, v1alpha1.ReasonDelivered)
		Expect(c.Message).To(ContainSubstring("could not be written to Redis (PermissionDenied)"))

		By("breaking the flags, which pods do not serve in any case")
		Expect(k8s.Delete(ctx, s.flags(""))).To(Succeed())
		s.create(ctx, s.flags("broken"))
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		Expect(c.Message).To(ContainSubstring("The last good flags are still served"))
		kept, number := publishedFlags(ctx, s)
		Expect(kept).To(Equal(document))
		Expect(number).To(Equal(second))
		Expect(deliveries.watched[key].Digest).To(Equal(digestOf(document)))
		Expect(k8s.Delete(ctx, s.aFlagCache())).To(Succeed())
		s.settle(ctx)
		Expect(deliveries.watched).To(BeEmpty())
		Expect(broadcasts.watched).To(BeEmpty())
	})

	It("keep their revision when the ConfigMap has another name or key", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		revision := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable
		_, first := publishedFlags(ctx, s)
		renamed := s.flags("")
		renamed.Name, renamed.Data = "demo-flags-7h2k", nil
		renamed.BinaryData = map[string][]byte{"production.json": []byte(`{"flags":   {}}`)}
		s.create(ctx, renamed)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Spec.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: "demo-flags-7h2k", Key: "production.json"}
		})
		s.settle(ctx)
		fc := get(ctx, s, &v1alpha1.FlagCache{}, "demo")
		Expect(fc.Status.Revisions.Stable).To(Equal(revision))
		Expect(fc.Status.Revisions.Candidate).To(BeEmpty())
		document, second := publishedFlags(ctx, s)
		Expect(document).To(Equal(`{"flags":   {}}`))
		Expect(second).To(Equal(first + 1))
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)

		By("making the published flags immutable, and changing the flags")
		edit(ctx, s, &corev1.ConfigMap{}, "demo-published-flags", func(c *corev1.ConfigMap) { c.Immutable = ptr.To(true) })
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags-7h2k", func(c *corev1.ConfigMap) { c.BinaryData["production.json"] = []byte(`{"flags": {}}`) })
		s.settle(ctx)
		document, third := publishedFlags(ctx, s)
		Expect(document).To(Equal(`{"flags": {}}`))
		Expect(third).To(BeNumerically(">", second))
	})

	It("are not taken over when another object has the name", func(ctx context.Context) {
		s := newStage(ctx)
		theirs := s.flags(`{"flags": {}}`)
		theirs.Name = "demo-published-flags"
		s.create(ctx, theirs)
		s.create(ctx, s.aFlagCache())
		for range 3 {
			s.reconcile(ctx)
		}
		c := s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		Expect(c.Message).To(ContainSubstring("ConfigMap demo-published-flags"))
		Expect(get(ctx, s, &corev1.ConfigMap{}, theirs.Name).ResourceVersion).To(Equal(theirs.ResourceVersion))
	})
})
