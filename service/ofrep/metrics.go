// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
)

// buckets are in seconds. The limits of a canary's checks, 100 and 300 ms, are
// bucket bounds, so that requests over a limit are counted exactly.
var buckets = []float64{0.001, 0.002, 0.005, 0.010, 0.025, 0.050, 0.100, 0.150, 0.300, 0.500, 1}

// Metrics are the metrics of requests and evaluations.
type Metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	evaluations *prometheus.CounterVec
	// freshness counts the waits for more recent flags.
	freshness     *prometheus.CounterVec
	freshnessWait prometheus.Histogram
	waiting       prometheus.Gauge
	log           *slog.Logger
	served        atomic.Pointer[flags.Set]
}

// NewMetrics registers the metrics. The errors of failed evaluations are logged
// at the debug level.
func NewMetrics(registry prometheus.Registerer, log *slog.Logger) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricRequests,
			Help: "OFREP requests by endpoint (single, bulk, events, other), HTTP status code, and who answered (own, candidate).",
		}, []string{"endpoint", "code", "track"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    config.MetricRequestDuration,
			Help:    "Time from an OFREP request's headers to the end of its response, in seconds, by endpoint and who answered (own, candidate).",
			Buckets: buckets,
		}, []string{"endpoint", "track"}),
		evaluations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricEvaluations,
			Help: "Evaluations of current flags by key, variant and reason.",
		}, []string{"key", "variant", "reason"}),
		freshness: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricFreshnessWaits,
			Help: "Requests for more recent flags than the served ones, by the result of the wait for them (fresh, behind, refused, ended).",
		}, []string{"result"}),
		freshnessWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    config.MetricFreshnessWait,
			Help:    "Time that requests waited for more recent flags, in seconds.",
			Buckets: buckets,
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: config.MetricFreshnessWaiting,
			Help: "Number of requests that wait for more recent flags.",
		}),
		log: log,
	}
	for _, result := range []string{waitFresh, waitBehind, waitRefused, waitEnded} {
		m.freshness.WithLabelValues(result)
	}
	registry.MustRegister(m.requests, m.duration, m.evaluations, m.freshness, m.freshnessWait, m.waiting)
	return m
}

// counter is a counter that is resolved by its labels on first use: most
// outcomes of a flag never occur and need no series.
type counter struct {
	resolved atomic.Pointer[prometheus.Counter]
}

func (m *Metrics) counters(set *flags.Set) []counter {
	return make([]counter, len(set.Outcomes()))
}

// evaluated counts an outcome. The error is logged for the authors of rules.
func (m *Metrics) evaluated(v *view, outcome *flags.Outcome, err error) {
	if err != nil {
		m.log.Debug("evaluating a flag failed", "flag", outcome.Key, "code", outcome.ErrorCode, "error", err)
	}
	slot := &v.counters[outcome.ID].resolved
	resolved := slot.Load()
	if resolved == nil {
		found := m.evaluations.WithLabelValues(outcome.Key, outcome.Variant, string(outcome.Reason))
		resolved = &found
		slot.Store(resolved)
	}
	(*resolved).Inc()
}

// keepOnly deletes the series of flags that are no longer served, which bounds
// their number.
func (m *Metrics) keepOnly(set *flags.Set) {
	previous := m.served.Swap(set)
	if previous == nil {
		return
	}
	for _, flag := range previous.Flags() {
		if _, kept := set.Flag(flag.Key); !kept {
			m.evaluations.DeletePartialMatch(prometheus.Labels{"key": flag.Key})
		}
	}
}
