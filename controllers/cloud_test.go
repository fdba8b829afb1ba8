// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/test/ackplayer"
)

// fastClock is a clock that is ahead of the real time.
type fastClock time.Duration

func (c fastClock) Now() time.Time                  { return time.Now().Add(time.Duration(c)) }
func (c fastClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// allInstalled is an ACK with all kinds installed.
type allInstalled struct{}

func (allInstalled) Installed() map[string]bool {
	installed := map[string]bool{}
	for _, kind := range ack.Kinds() {
		installed[kind.Kind] = true
	}
	return installed
}

// starter runs until its context is done.
type starter interface {
	Start(ctx context.Context) error
}

// run runs a starter until the end of the spec, or of all specs of a container.
func run(r starter) {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	DeferCleanup(func() {
		cancel()
		Expect(<-ended).To(Succeed())
	})
}

// cloud is a stage with a simulated ACK, real Redis servers and a real prober.
type cloud struct{ *stage }

func newCloud(ctx context.Context, player *ackplayer.Player) cloud {
	GinkgoHelper()
	s := cloud{newStage(ctx)}
	prober := probe.New(probe.Options{Log: ctrl.Log})
	run(prober)
	s.ACK, s.Prober, s.Clock = allInstalled{}, prober, clock.RealClock{}
	s.Operator.ElastiCacheCA = string(player.CA())
	DeferCleanup(s.clear)
	return s
}

// clear deletes the resources in AWS while it is still simulated.
func (s cloud) clear(ctx context.Context) {
	Expect(k8s.DeleteAllOf(ctx, &ack.ReplicationGroup{}, client.InNamespace(s.namespace))).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		groups := &ack.ReplicationGroupList{}
		g.Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
		g.Expect(groups.Items).To(BeEmpty())
	}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
}

// elastiCacheFlagCache returns a FlagCache with a minimal cache and a short probe
// interval.
func (s cloud) elastiCacheFlagCache() *v1alpha1.FlagCache {
	fc := s.aFlagCache()
	fc.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheElastiCache, ElastiCache: &v1alpha1.ElastiCacheSpec{Replicas: 1}}
	fc.Spec.Probe = v1alpha1.ProbeSpec{
		Interval: metav1.Duration{Duration: time.Second}, Timeout: metav1.Duration{Duration: time.Second}, SuccessThreshold: 1,
	}
	return fc
}

// eventually reconciles repeatedly, with a simulated kubelet, until the condition holds.
func (s cloud) eventually(ctx context.Context, holds func(g Gomega)) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		s.reconcileOnce(ctx, g)
		holds(g)
	}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
}

// reconcileOnce reconciles once; others may write at the same time.
func (s cloud) reconcileOnce(ctx context.Context, g Gomega) {
	_, err := s.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}})
	g.Expect(err).NotTo(HaveOccurred())
	s.podsAvailable(ctx)
}

// createReady creates a FlagCache and reconciles until it is Ready and in steady state.
func (s cloud) createReady(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	s.create(ctx, fc)
	s.expectReady(ctx)
}

// createPaused creates a FlagCache and reconciles until it has a group, which ACK does not
// reconcile before Resume.
func (s cloud) createPaused(ctx context.Context, player *ackplayer.Player) *ack.ReplicationGroup {
	GinkgoHelper()
	player.Pause()
	DeferCleanup(player.Resume)
	s.create(ctx, s.elastiCacheFlagCache())
	for range 5 {
		s.reconcile(ctx)
	}
	return s.group(ctx)
}

func (s cloud) expectReady(ctx context.Context) {
	GinkgoHelper()
	s.eventually(ctx, func(g Gomega) {
		s.expectCondition(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
	s.eventually(ctx, func(g Gomega) {
		s.writes = nil
		s.reconcileOnce(ctx, g)
		g.Expect(s.writes).To(BeEmpty())
	})
}

// expectCondition checks a condition.
func (s cloud) expectCondition(g Gomega, ctx context.Context, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	fc := &v1alpha1.FlagCache{}
	g.Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "demo"}, fc)).To(Succeed())
	c := meta.FindStatusCondition(fc.Status.Conditions, kind)
	g.Expect(c).NotTo(BeNil())
	g.Expect(fmt.Sprintf("%s %s", c.Status, c.Reason)).To(Equal(fmt.Sprintf("%s %s", status, reason)), "%v", fc.Status.Conditions)
	return *c
}

func (s cloud) expectProvisioned(g Gomega, ctx context.Context, status metav1.ConditionStatus, reason string) metav1.Condition {
	return s.expectCondition(g, ctx, v1alpha1.ConditionCacheProvisioned, status, reason)
}

// deleteFlagCache deletes the FlagCache and reconciles until it and all of its ACK objects
// are deleted.
func (s cloud) deleteFlagCache(ctx context.Context) {
	GinkgoHelper()
	Expect(k8s.Delete(ctx, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
	s.expectDeleted(ctx)
}

// expectDeleted reconciles until a FlagCache that is being deleted does not exist.
func (s cloud) expectDeleted(ctx context.Context) {
	GinkgoHelper()
	s.eventually(ctx, func(g Gomega) {
		// The API server runs without a garbage collector.
		err := k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "demo"}, &v1alpha1.FlagCache{})
		g.Expect(client.IgnoreNotFound(err)).To(Succeed())
		g.Expect(err).To(HaveOccurred())
	})
	groups := &ack.ReplicationGroupList{}
	Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
	Expect(groups.Items).To(BeEmpty())
	Expect(k8s.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(s.namespace))).To(Succeed())
}

// group returns the only group.
func (s cloud) group(ctx context.Context) *ack.ReplicationGroup {
	GinkgoHelper()
	groups := &ack.ReplicationGroupList{}
	Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
	Expect(groups.Items).To(HaveLen(1))
	return &groups.Items[0]
}

// annotate sets an annotation of the FlagCache.
func (s cloud) annotate(ctx context.Context, key, value string) {
	GinkgoHelper()
	fc := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo")
	before := fc.DeepCopy()
	metav1.SetMetaDataAnnotation(&fc.ObjectMeta, key, value)
	Expect(k8s.Patch(ctx, fc, client.MergeFrom(before))).To(Succeed())
}

// expectUnchangedSpec checks that the group's spec was written only once, by the operator.
func (s cloud) expectUnchangedSpec(ctx context.Context) {
	GinkgoHelper()
	group := s.group(ctx)
	Expect(group.Generation).To(BeEquivalentTo(1))
	for _, e := range group.ManagedFields {
		if e.Manager == "controller" && e.Subresource == "" {
			Expect(e.FieldsV1.GetRawString()).NotTo(ContainSubstring("f:spec"), "ACK's fields")
		}
	}
}

// expectMatchingTokens checks that clients authenticate with the recorded token.
func (s cloud) expectMatchingTokens(ctx context.Context) {
	GinkgoHelper()
	id := s.group(ctx).Labels[v1alpha1.LabelCache]
	token := get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+id).Data["token"]
	Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).To(Equal(token))
	Expect(token).NotTo(BeEmpty())
}

// callsFor returns the calls to AWS for a group and its dependencies since the first
// calls, without consecutive duplicates.
func callsFor(player *ackplayer.Player, group *ack.ReplicationGroup, after int) []string {
	var calls []string
	for _, call := range player.Calls()[after:] {
		if strings.Contains(call.ID, group.Labels[v1alpha1.LabelCache]) {
			calls = append(calls, string(call.Operation)+" "+call.Kind)
		}
	}
	return slices.Compact(calls)
}

// modifications returns the number of calls that modify a group.
func modifications(player *ackplayer.Player, id string) int {
	n := 0
	for _, call := range player.Calls() {
		if call.Operation == ackplayer.Modify && call.ID == id {
			n++
		}
	}
	return n
}
