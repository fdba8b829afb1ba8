// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"net/netip"
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
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/ackcrds"
	"github.com/flagcache/flagcache/test/awsplayer"
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

func (allInstalled) Lacking() map[string][]string { return nil }

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

// resync is how often ACK syncs groups that are in sync. The operator changes a group only
// some time after the last sync, because the times of ACK have a resolution of seconds.
const resync = 4 * time.Second

// aws is AWS with a running controller of ACK.
type aws struct {
	*awsplayer.Player
	ack *ackcontroller.Controller
}

// startAWS starts AWS and ACK until the end of all specs of a container.
func startAWS(ctx context.Context) aws {
	GinkgoHelper()
	Expect(ackcrds.Install(ctx, k8s)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(ackcrds.Remove(ctx, k8s)).To(Succeed()) })
	player, err := awsplayer.New(awsplayer.Options{Log: ctrl.Log, Region: ackcontroller.Region})
	Expect(err).NotTo(HaveOccurred())
	run(player)
	controller, err := ackcontroller.Start(ctx, ackcontroller.Options{Config: config, Endpoint: player.Endpoint(), Resync: resync})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() {
		produced.keep("the log of ACK", controller.Log())
		Expect(controller.Stop()).To(Succeed())
	})
	return aws{player, controller}
}

// pauseACK pauses ACK until resumeACK, or the end of the spec.
func (a aws) pauseACK() {
	GinkgoHelper()
	Expect(a.ack.Pause()).To(Succeed())
	DeferCleanup(a.ack.Resume)
}

func (a aws) resumeACK() {
	GinkgoHelper()
	Expect(a.ack.Resume()).To(Succeed())
}

// loopback opens the addresses of the Redis servers of a test.
var loopback = &dial.Rules{Lists: func() *policy.Addresses {
	return &policy.Addresses{Allow: []policy.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
}}

// cloud is a stage with ACK's controller, real Redis servers and a real prober.
type cloud struct{ *stage }

func newCloud(ctx context.Context, player aws) cloud {
	GinkgoHelper()
	s := cloud{newStage(ctx)}
	prober := probe.New(probe.Options{Log: ctrl.Log, Rules: loopback})
	run(prober)
	s.ACK, s.Prober, s.Clock = allInstalled{}, prober, clock.RealClock{}
	s.Operator.ElastiCacheCA = string(player.CA())
	DeferCleanup(s.clear)
	DeferCleanup(func(ctx context.Context) { s.explain(ctx, player) })
	return s
}

// explain adds what AWS and ACK did to the report of a failed spec.
func (s cloud) explain(ctx context.Context, player aws) {
	if !CurrentSpecReport().Failed() {
		return
	}
	for _, list := range []client.ObjectList{&v1alpha1.FlagCacheList{}, &ack.ReplicationGroupList{}} {
		Expect(k8s.List(ctx, list, client.InNamespace(s.namespace))).To(Succeed())
		text, err := yaml.Marshal(list)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry(fmt.Sprintf("%T", list), string(text))
	}
	changes := ""
	for _, call := range player.Calls() {
		if call.Mutating() {
			changes += fmt.Sprintln(call.Time.Format(time.StampMilli), call.Action, call.ID, call.Code, call.Parameters)
		}
	}
	AddReportEntry("changes of AWS", changes)
	AddReportEntry("log of ACK", player.ack.Log())
}

// clear deletes the groups in AWS while ACK runs.
func (s cloud) clear(ctx context.Context) {
	Expect(k8s.DeleteAllOf(ctx, &ack.ReplicationGroup{}, client.InNamespace(s.namespace))).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		g.Expect(s.groups(ctx)).To(BeEmpty())
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
	s.otherKindsReady(ctx)
}

// otherKindsReady acts as ACK's ec2-controller and cloudwatch-controller.
func (s cloud) otherKindsReady(ctx context.Context) {
	now := metav1.Now()
	synced := []*ack.Condition{
		{Type: ack.ConditionSynced, Status: corev1.ConditionTrue, LastTransitionTime: &now},
		{Type: ack.ConditionReady, Status: corev1.ConditionTrue, LastTransitionTime: &now},
	}
	security := &ack.SecurityGroupList{}
	Expect(k8s.List(ctx, security, client.InNamespace(s.namespace))).To(Succeed())
	for i := range security.Items {
		g := &security.Items[i]
		g.Status.ID, g.Status.Conditions = ptr.To("sg-"+observed.Fingerprint(g.UID)), synced
		Expect(k8s.Status().Update(ctx, g)).To(Succeed())
	}
	alarms := &ack.MetricAlarmList{}
	Expect(k8s.List(ctx, alarms, client.InNamespace(s.namespace))).To(Succeed())
	for i := range alarms.Items {
		alarms.Items[i].Status.Conditions = synced
		Expect(k8s.Status().Update(ctx, &alarms.Items[i])).To(Succeed())
	}
}

// expectSynced waits until ACK has synced the group again.
func (s cloud) expectSynced(ctx context.Context) {
	GinkgoHelper()
	// ACK's times have a resolution of seconds.
	now := time.Now().Add(time.Second)
	Eventually(ctx, func(g Gomega) {
		g.Expect(ack.ConditionsOf(s.group(ctx)).LastSyncTime().Time).To(BeTemporally(">", now))
	}).WithTimeout(time.Minute).WithPolling(200 * time.Millisecond).Should(Succeed())
}

// createReady creates a FlagCache and reconciles until it is Ready and in steady state.
func (s cloud) createReady(ctx context.Context, fc *v1alpha1.FlagCache) {
	GinkgoHelper()
	s.create(ctx, fc)
	s.expectReady(ctx)
}

// createPaused creates a FlagCache and reconciles until it has a group, which ACK does not
// reconcile before resumeACK.
func (s cloud) createPaused(ctx context.Context, player aws) *ack.ReplicationGroup {
	GinkgoHelper()
	player.pauseACK()
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
	Expect(s.groups(ctx)).To(BeEmpty())
	Expect(k8s.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(s.namespace))).To(Succeed())
}

// group returns the only group.
func (s cloud) group(ctx context.Context) *ack.ReplicationGroup {
	GinkgoHelper()
	groups := s.groups(ctx)
	Expect(groups).To(HaveLen(1))
	return &groups[0]
}

// groups returns all groups, those included that ACK deletes.
func (s cloud) groups(ctx context.Context) []ack.ReplicationGroup {
	GinkgoHelper()
	groups := &ack.ReplicationGroupList{}
	Expect(k8s.List(ctx, groups, client.InNamespace(s.namespace))).To(Succeed())
	return groups.Items
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

// changesOf returns the actions of AWS that changed a group and its dependencies since the
// first calls, without consecutive duplicates.
func changesOf(player aws, group *ack.ReplicationGroup, after int) []string {
	id := *group.Spec.ReplicationGroupID
	// The IDs of all dependencies contain the unique part of the group's.
	unique := id[strings.LastIndex(id, "-")+1:]
	var actions []string
	for _, call := range player.Calls()[after:] {
		if call.Mutating() && strings.Contains(call.ID, unique) {
			actions = append(actions, call.Action)
		}
	}
	return slices.Compact(actions)
}

// ackKinds returns the kinds of the ACK objects that the operator created or deleted, in
// order, without consecutive duplicates.
func (s cloud) ackKinds(verb string) []string {
	var kinds []string
	for _, write := range s.history {
		words := strings.Fields(write)
		kind := words[1][strings.LastIndex(words[1], ".")+1:]
		if words[0] == verb && slices.ContainsFunc(ack.Kinds(), func(k ack.Kind) bool { return k.Kind == kind }) {
			kinds = append(kinds, kind)
		}
	}
	return slices.Compact(kinds)
}

// modifications returns the number of calls that modify a group.
func modifications(player aws, id string) int {
	n := 0
	for _, call := range player.Calls("ModifyReplicationGroup") {
		if call.ID == id {
			n++
		}
	}
	return n
}
