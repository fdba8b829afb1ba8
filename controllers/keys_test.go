// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/source"
	service "github.com/flagcache/flagcache/service/config"
)

var _ = Describe("The keys of documents in Redis", func() {
	It("are replaced in two steps, without the pods or the key of seals", func(ctx context.Context) {
		const period = 24 * time.Hour
		s := newStage(ctx)
		s.Operator.KeyPeriod = period
		now := time.Now()
		later := func(d time.Duration) *corev1.Secret {
			GinkgoHelper()
			now = now.Add(d)
			s.Clock = clocktesting.NewFakePassiveClock(now)
			s.settle(ctx)
			return get(ctx, s, &corev1.Secret{}, "demo-integrity")
		}
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		stable := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable
		template := get(ctx, s, &appsv1.Deployment{}, "demo-"+stable).Spec.Template

		first := later(0)
		Expect(slices.Sorted(maps.Keys(first.Data))).To(Equal([]string{service.IntegrityKey, observed.SealKey}))

		By("announcing the next key, which nothing is sealed with yet")
		Expect(later(period / 2).Data).To(Equal(first.Data))
		announced := later(period)
		next := announced.Data[service.IntegrityKey+service.IntegrityNextSuffix]
		Expect(next).NotTo(BeEmpty())
		Expect(announced.Data).To(HaveKeyWithValue(service.IntegrityKey, first.Data[service.IntegrityKey]))

		By("using it")
		used := later(period + period/8)
		Expect(used.Data).To(Equal(map[string][]byte{
			service.IntegrityKey: next, service.IntegrityKey + service.IntegrityPreviousSuffix: first.Data[service.IntegrityKey], observed.SealKey: first.Data[observed.SealKey],
		}))

		By("announcing another one, and removing the previous one")
		last := later(period + period/8)
		Expect(slices.Sorted(maps.Keys(last.Data))).To(Equal([]string{service.IntegrityKey, service.IntegrityKey + service.IntegrityNextSuffix, observed.SealKey}))

		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Stable).To(Equal(stable))
		Expect(get(ctx, s, &appsv1.Deployment{}, "demo-"+stable).Spec.Template).To(Equal(template))
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
})

var _ = Describe("Published flags that somebody replaced", func() {
	It("are not believed while the flags of the spec are broken, and are passed when those are fixed", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		const evil = `{"flags": {"evil": {}}}`
		forged := time.Now().Unix() + service.FlagsNumberLead + 1000

		By("breaking the flags, and publishing others consistently")
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = "broken" })
		s.settle(ctx)
		good := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Flags
		edit(ctx, s, &corev1.ConfigMap{}, "demo-published-flags", func(c *corev1.ConfigMap) {
			c.Data[service.FlagsManifestKey] = fmt.Sprintf(`{"version":1,"store":"flagcache:%s/demo","current":{"number":%d,"digest":"%x","publishedAt":"2026-06-01T12:00:00Z"}}`,
				s.namespace, forged, sha256.Sum256([]byte(evil)))
			c.BinaryData[service.FlagsDocumentKey] = observed.Compress([]byte(evil))
		})
		s.settle(ctx)
		c := s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		Expect(c.Message).To(And(ContainSubstring("somebody edited ConfigMap demo-published-flags"), Not(ContainSubstring("still served"))))
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Flags.Digest).To(Equal(good.Digest))

		By("fixing the flags")
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = `{"flags": {}}` })
		s.settle(ctx)
		data, current, err := source.ReadPublished(get(ctx, s, &corev1.ConfigMap{}, "demo-published-flags"), "flagcache:"+s.namespace+"/demo")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(data)).To(Equal(`{"flags": {}}`))
		Expect(current.Number).To(BeNumerically(">", forged))

		By("breaking them again, and removing the manifest of the last good ones, which are published again")
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = "broken" })
		s.settle(ctx)
		edit(ctx, s, &corev1.ConfigMap{}, "demo-published-flags", func(c *corev1.ConfigMap) { delete(c.Data, service.FlagsManifestKey) })
		s.settle(ctx)
		c = s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		Expect(c.Message).To(ContainSubstring("The last good flags are still served"))
		data, _, err = source.ReadPublished(get(ctx, s, &corev1.ConfigMap{}, "demo-published-flags"), "flagcache:"+s.namespace+"/demo")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(data)).To(Equal(`{"flags": {}}`))
	})
})
