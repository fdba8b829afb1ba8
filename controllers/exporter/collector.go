// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// collectTimeout bounds a scrape that arrives before the cache is synced.
const collectTimeout = 5 * time.Second

var (
	infoMetric = prometheus.NewDesc("flagcache_info",
		"A FlagCache with its cache type and its stable revision; always 1.",
		[]string{"namespace", "name", "cache", "revision"}, nil)
	conditionMetric = prometheus.NewDesc("flagcache_condition",
		"A condition of a FlagCache with its current status, True, False or Unknown; always 1.",
		[]string{"namespace", "name", "type", "status"}, nil)
	readyReplicasMetric = prometheus.NewDesc("flagcache_ready_replicas",
		"Ready replicas of the flag service behind the Service.",
		[]string{"namespace", "name"}, nil)
	canaryWeightMetric = prometheus.NewDesc("flagcache_canary_weight",
		"Share of the traffic that the candidate receives, in percent; 0 without a canary.",
		[]string{"namespace", "name"}, nil)
	canaryCheckMetric = prometheus.NewDesc("flagcache_canary_check",
		"Proportion of a check's events that were bad at the candidate since its canary started, from 0 to 1.",
		[]string{"namespace", "name", "check"}, nil)
	canaryLimitMetric = prometheus.NewDesc("flagcache_canary_check_threshold",
		"Largest proportion of a check's events that may be bad, from 0 to 1.",
		[]string{"namespace", "name", "check"}, nil)
	rollbacksMetric = prometheus.NewDesc("flagcache_rollbacks_total",
		"Rollbacks reported by this operator since it started, by reason.",
		[]string{"namespace", "name", "reason"}, nil)
)

// Collector exports the statuses of FlagCaches. It reads them on each scrape, so a
// deleted FlagCache leaves no series behind.
type Collector struct {
	// FlagCaches reads FlagCaches from a cache.
	FlagCaches client.Reader
	// Rollbacks are the rollbacks that the reconciler counted.
	Rollbacks *Rollbacks
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- infoMetric
	descriptions <- conditionMetric
	descriptions <- readyReplicasMetric
	descriptions <- canaryWeightMetric
	descriptions <- canaryCheckMetric
	descriptions <- canaryLimitMetric
	descriptions <- rollbacksMetric
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	list := &v1alpha1.FlagCacheList{}
	if err := c.FlagCaches.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		metrics <- prometheus.NewInvalidMetric(infoMetric, err)
		return
	}
	for i := range list.Items {
		collect(metrics, &list.Items[i])
		c.collectRollbacks(metrics, &list.Items[i])
	}
}

// collectRollbacks exports the rollbacks of an existing FlagCache.
func (c *Collector) collectRollbacks(metrics chan<- prometheus.Metric, fc *v1alpha1.FlagCache) {
	for reason, count := range c.Rollbacks.byReason(fc) {
		metrics <- prometheus.MustNewConstMetric(rollbacksMetric, prometheus.CounterValue, count, fc.Namespace, fc.Name, reason)
	}
}

func collect(metrics chan<- prometheus.Metric, fc *v1alpha1.FlagCache) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{fc.Namespace, fc.Name}, labels...)...)
	}
	revision := ""
	if fc.Status.Revisions != nil {
		revision = fc.Status.Revisions.Stable
	}
	gauge(infoMetric, 1, string(fc.Spec.Cache.Type), revision)
	if fc.Status.Service != nil {
		gauge(readyReplicasMetric, float64(fc.Status.Service.ReadyReplicas))
	}
	for _, c := range fc.Status.Conditions {
		gauge(conditionMetric, 1, c.Type, string(c.Status))
	}
	if fc.Status.Canary == nil {
		gauge(canaryWeightMetric, 0)
		return
	}
	gauge(canaryWeightMetric, float64(fc.Status.Canary.Weight))
	for _, c := range fc.Status.Canary.Checks {
		if observed, ok := canary.ParsePercent(string(c.Observed)); ok {
			gauge(canaryCheckMetric, observed, c.Name)
		}
		if limit, ok := canary.ParsePercent(string(c.Limit)); ok {
			gauge(canaryLimitMetric, limit, c.Name)
		}
	}
}
