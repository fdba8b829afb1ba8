// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the prober as a whole. Series for each cache would grow with the fleet, and
// the conditions of each cache have more detail.
type metrics struct {
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
	wait     *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flagcache_probe_duration_seconds",
			Help:    "Duration of probes of caches, from name resolution to the last reply.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5},
		}, []string{"result"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flagcache_probe_failures_total",
			Help: "Failed probes of caches, by reason.",
		}, []string{"reason"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flagcache_probe_wait_seconds",
			Help:    "Time that due probes of caches waited for a worker, by lane: new, fast, late or failing.",
			Buckets: []float64{.001, .01, .1, 1, 10, 60},
		}, []string{"lane"}),
	}
}

func (m *metrics) observe(a Attempt) {
	result := "success"
	if a.Err != nil {
		result = "failure"
		m.failures.WithLabelValues(string(a.Cause)).Inc()
	}
	m.duration.WithLabelValues(result).Observe(a.Latency.Seconds())
}

// Collectors returns the prober's metrics for registration.
func (p *Prober) Collectors() []prometheus.Collector {
	return []prometheus.Collector{p.metrics.duration, p.metrics.failures, p.metrics.wait}
}
