// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/exporter"
)

var _ = Describe("The operator's metrics", func() {
	It("reflect the statuses", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.reconcile(ctx)
		want := strings.ReplaceAll(`
# HELP flagcache_canary_weight Share of the traffic that the candidate receives, in percent; 0 without a canary.
# TYPE flagcache_canary_weight gauge
flagcache_canary_weight{name="demo",namespace="NS"} 0
# HELP flagcache_condition A condition of a FlagCache with its current status, True, False or Unknown; always 1.
# TYPE flagcache_condition gauge
flagcache_condition{name="demo",namespace="NS",status="True",type="Reconciling"} 1
flagcache_condition{name="demo",namespace="NS",status="Unknown",type="Ready"} 1
# HELP flagcache_info A FlagCache with its cache type and its stable revision; always 1.
# TYPE flagcache_info gauge
flagcache_info{cache="InCluster",name="demo",namespace="NS",revision=""} 1
`, "NS", s.namespace)
		Expect(testutil.CollectAndCompare(s.collector(), strings.NewReader(want), "flagcache_canary_weight", "flagcache_canary_check",
			"flagcache_canary_check_threshold", "flagcache_condition", "flagcache_info", "flagcache_ready_replicas")).To(Succeed())
	})

	It("count each rollback once, from zero, until the FlagCache is deleted", func(ctx context.Context) {
		s := newStage(ctx)
		fc := s.aFlagCache()
		fc.Spec.Canary.Steps = []v1alpha1.CanaryStep{{Weight: 5, Duration: metav1.Duration{Duration: time.Hour}}}
		s.create(ctx, fc)
		s.ready(ctx)
		edit(ctx, s, fc, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Image = "flag-service:v2" })
		s.settle(ctx)
		Expect(s.rollbacks()).To(And(HaveKeyWithValue("Aborted", 0.0), HaveKeyWithValue("Breach", 0.0), HaveKeyWithValue("CrashLoopBackOff", 0.0)))

		By("aborting")
		edit(ctx, s, fc, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationAbort: fc.Status.Revisions.Candidate}
		})
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionRolloutHealthy, metav1.ConditionFalse, v1alpha1.ReasonRolledBack)
		Expect(s.rollbacks()).To(HaveKeyWithValue("Aborted", 1.0))

		By("losing the status and reconciling again")
		get(ctx, s, fc, "demo")
		fc.Status = v1alpha1.FlagCacheStatus{}
		Expect(k8s.Status().Update(ctx, fc)).To(Succeed())
		s.settle(ctx)
		Expect(s.rollbacks()).To(HaveKeyWithValue("Aborted", 1.0))

		By("changing the leader")
		before := s.Reconciler
		s.Reconciler = &controllers.Reconciler{
			Client: before.Client, Live: before.Live, FlagFiles: before.FlagFiles, Prober: before.Prober, Sampler: before.Sampler,
			Events: before.Events, Clock: before.Clock, Operator: before.Operator,
		}
		s.settle(ctx)
		Expect(s.rollbacks()).To(HaveKeyWithValue("Aborted", 0.0))

		By("retrying the rejected revision, and aborting it again")
		edit(ctx, s, fc, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationRetry: fc.Status.Revisions.Rejected}
		})
		s.Clock = clocktesting.NewFakePassiveClock(before.Clock.Now().Add(time.Minute))
		s.settle(ctx)
		edit(ctx, s, fc, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations[v1alpha1.AnnotationAbort] = fc.Status.Revisions.Candidate
		})
		s.settle(ctx)
		Expect(s.rollbacks()).To(HaveKeyWithValue("Aborted", 1.0))

		By("deleting the FlagCache")
		Expect(k8s.Delete(ctx, fc)).To(Succeed())
		s.settle(ctx)
		s.expectGone(ctx, fc, "demo")
		Expect(s.rollbacks()).To(BeEmpty())
	})
})

// collector exports the FlagCaches of the stage's namespace.
func (s *stage) collector() *exporter.Collector {
	return &exporter.Collector{FlagCaches: client.NewNamespacedClient(k8s, s.namespace), Rollbacks: &s.Rollbacks}
}

// rollbacks returns the exported rollbacks by reason.
func (s *stage) rollbacks() map[string]float64 {
	GinkgoHelper()
	registry := prometheus.NewPedanticRegistry()
	Expect(registry.Register(s.collector())).To(Succeed())
	families, err := registry.Gather()
	Expect(err).NotTo(HaveOccurred())
	counts := map[string]float64{}
	for _, family := range families {
		produced.keep("metrics", family.String())
		if family.GetName() != "flagcache_rollbacks_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					counts[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	return counts
}
