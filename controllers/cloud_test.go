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

// ahead is a clock that goes before all others.
type ahead time.Duration

func (a ahead) Now() time.Time                  { return time.Now().Add(time.Duration(a)) }
func (a ahead) Since(t time.Time) time.Duration { return a.Now().Sub(t) }

// allKinds are installed.
type allKinds struct{}

func (allKinds) Installed(context.Context) (map[string]bool, error) {
	installed := map[string]bool{}
	for _, kind := range ack.Kinds() {
		installed[kind.Kind] = true
	}
	return installed, nil
}

// runs is something that goes on until its context ends.
type runs interface {
	Start(ctx context.Context) error
}

// run runs something until the end of the spec, or of all specs of a container.
func run(r runs) {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	DeferCleanup(func() {
		cancel()
		Expect(<-ended).To(Succeed())
	})
}

// cloud is a stage with ACK, Redis servers and a prober that are real, or nearly.
type cloud struct{ *stage }

func newCloud(ctx context.Context, player *ackplayer.Player) cloud {
	GinkgoHelper()
	s := cloud{newStage(ctx)}
	prober := probe.New(probe.Options{Log: ctrl.Log})
	run(prober)
	s.ACK, s.Prober, s.Clock = allKinds{}, prober, clock.RealClock{}
	s.Operator.ElastiCacheCA = string(player.CA())
	DeferCleanup(s.clear)
	return s
}

// clear deletes what there is in AWS, as long as somebody plays that.
func (s cloud) clear(ctx context.Context) {
	Expect(k8s.DeleteAllOf(ctx, &ack.ReplicationGroup{}, client.InNamespace(s.namespace))).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		groups := &ack.ReplicationGroupList{}
		g.Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
		g.Expect(groups.Items).To(BeEmpty())
	}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
}

// anElastiCache is a FlagCache with the least of a cache, probed often.
func (s cloud) anElastiCache() *v1alpha1.FlagCache {
	fc := s.aFlagCache()
	fc.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheElastiCache, ElastiCache: &v1alpha1.ElastiCacheSpec{Replicas: 1}}
	fc.Spec.Probe = v1alpha1.ProbeSpec{
		Interval: metav1.Duration{Duration: time.Second}, Timeout: metav1.Duration{Duration: time.Second}, SuccessThreshold: 1,
	}
	return fc
}

// eventually looks again and again, with the kubelet played, until something holds.
func (s cloud) eventually(ctx context.Context, holds func(g Gomega)) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		s.look(ctx, g)
		holds(g)
	}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
}

// look looks once; others write at the same time.
func (s cloud) look(ctx context.Context, g Gomega) {
	_, err := s.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}})
	g.Expect(err).NotTo(HaveOccurred())
	s.podsAvailable(ctx)
}

// comesUp creates a FlagCache and looks until it is Ready and at rest.
func (s cloud) comesUp(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	s.create(ctx, fc)
	s.becomesReady(ctx)
}

// asks creates a FlagCache and looks until it asks ACK for a group, at which ACK does
// not look before Resume.
func (s cloud) asks(ctx context.Context, player *ackplayer.Player) *ack.ReplicationGroup {
	GinkgoHelper()
	player.Pause()
	DeferCleanup(player.Resume)
	s.create(ctx, s.anElastiCache())
	for range 5 {
		s.reconcile(ctx)
	}
	return s.group(ctx)
}

func (s cloud) becomesReady(ctx context.Context) {
	GinkgoHelper()
	s.eventually(ctx, func(g Gomega) {
		s.says(g, ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
	s.eventually(ctx, func(g Gomega) {
		s.writes = nil
		s.look(ctx, g)
		g.Expect(s.writes).To(BeEmpty())
	})
}

// says checks a condition.
func (s cloud) says(g Gomega, ctx context.Context, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	fc := &v1alpha1.FlagCache{}
	g.Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "demo"}, fc)).To(Succeed())
	c := meta.FindStatusCondition(fc.Status.Conditions, kind)
	g.Expect(c).NotTo(BeNil())
	g.Expect(fmt.Sprintf("%s %s", c.Status, c.Reason)).To(Equal(fmt.Sprintf("%s %s", status, reason)), "%v", fc.Status.Conditions)
	return *c
}

func (s cloud) provisioned(g Gomega, ctx context.Context, status metav1.ConditionStatus, reason string) metav1.Condition {
	return s.says(g, ctx, v1alpha1.ConditionCacheProvisioned, status, reason)
}

// isDeleted deletes the FlagCache and looks until it is gone with all of its
// objects in ACK.
func (s cloud) isDeleted(ctx context.Context) {
	GinkgoHelper()
	Expect(k8s.Delete(ctx, get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo"))).To(Succeed())
	s.isGone(ctx)
}

// isGone looks until a FlagCache that is being deleted is gone.
func (s cloud) isGone(ctx context.Context) {
	GinkgoHelper()
	s.eventually(ctx, func(g Gomega) {
		// There is no garbage collector here.
		err := k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "demo"}, &v1alpha1.FlagCache{})
		g.Expect(client.IgnoreNotFound(err)).To(Succeed())
		g.Expect(err).To(HaveOccurred())
	})
	groups := &ack.ReplicationGroupList{}
	Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
	Expect(groups.Items).To(BeEmpty())
	Expect(k8s.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(s.namespace))).To(Succeed())
}

// group is the only one.
func (s cloud) group(ctx context.Context) *ack.ReplicationGroup {
	GinkgoHelper()
	groups := &ack.ReplicationGroupList{}
	Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
	Expect(groups.Items).To(HaveLen(1))
	return &groups.Items[0]
}

// annotate annotates the FlagCache.
func (s cloud) annotate(ctx context.Context, key, value string) {
	GinkgoHelper()
	fc := get(ctx, s.stage, &v1alpha1.FlagCache{}, "demo")
	before := fc.DeepCopy()
	metav1.SetMetaDataAnnotation(&fc.ObjectMeta, key, value)
	Expect(k8s.Patch(ctx, fc, client.MergeFrom(before))).To(Succeed())
}

// expectLeftAlone checks that nobody wrote the group's spec but once the operator.
func (s cloud) expectLeftAlone(ctx context.Context) {
	GinkgoHelper()
	group := s.group(ctx)
	Expect(group.Generation).To(BeEquivalentTo(1))
	for _, e := range group.ManagedFields {
		if e.Manager == "controller" && e.Subresource == "" {
			Expect(e.FieldsV1.GetRawString()).NotTo(ContainSubstring("f:spec"), "ACK's fields")
		}
	}
}

// expectMatchingTokens checks that clients log in with the token on record.
func (s cloud) expectMatchingTokens(ctx context.Context) {
	GinkgoHelper()
	id := s.group(ctx).Labels[v1alpha1.LabelCache]
	token := get(ctx, s.stage, &corev1.Secret{}, "demo-cache-"+id).Data["token"]
	Expect(get(ctx, s.stage, &corev1.Secret{}, "demo-connection").Data["password"]).To(Equal(token))
	Expect(token).NotTo(BeEmpty())
}

// happened is what AWS was asked for of a group and what goes with it, after some
// calls, each once in a row.
func happened(player *ackplayer.Player, group *ack.ReplicationGroup, after int) []string {
	var calls []string
	for _, call := range player.Calls()[after:] {
		if strings.Contains(call.ID, group.Labels[v1alpha1.LabelCache]) {
			calls = append(calls, string(call.Operation)+" "+call.Kind)
		}
	}
	return slices.Compact(calls)
}

// modifications counts how often AWS was asked to change a group.
func modifications(player *ackplayer.Player, id string) int {
	n := 0
	for _, call := range player.Calls() {
		if call.Operation == ackplayer.Modify && call.ID == id {
			n++
		}
	}
	return n
}
