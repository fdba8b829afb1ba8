// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are about the prober as a whole: with a series for each cache they would
// grow with the fleet, and each cache has a condition that says more.
type metrics struct {
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
	wait     *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flagcache_probe_duration_seconds",
			Help:    "How long probes of caches took, from resolving the host to the last reply.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5},
		}, []string{"result"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flagcache_probe_failures_total",
			Help: "Failed probes of caches, by reason.",
		}, []string{"reason"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flagcache_probe_wait_seconds",
			Help:    "How long due probes of caches waited for a worker, by lane: new, fast, late or failing.",
			Buckets: []float64{.001, .01, .1, 1, 10, 60},
		}, []string{"lane"}),
	}
}

func (m *metrics) observe(a Attempt) {
	result := "success"
	if a.Err != nil {
		result = "failure"
		m.failures.WithLabelValues(string(a.Reason)).Inc()
	}
	m.duration.WithLabelValues(result).Observe(a.Latency.Seconds())
}

// Collectors are the prober's metrics, for the caller to register.
func (p *Prober) Collectors() []prometheus.Collector {
	return []prometheus.Collector{p.metrics.duration, p.metrics.failures, p.metrics.wait}
}
