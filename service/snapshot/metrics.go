// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/source"
)

// metrics are the refresher's metrics.
type metrics struct {
	loads            *prometheus.CounterVec
	loading          prometheus.Gauge
	missDuration     prometheus.Histogram
	waitTimeouts     prometheus.Counter
	refused          *prometheus.CounterVec
	lastGoodFailures prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricSourceLoads,
			Help: "Reads of the source by result: ok, error.",
		}, []string{"result"}),
		loading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: config.MetricSourceLoading,
			Help: "Reads of the source in progress: 0 or 1.",
		}),
		missDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: config.MetricCacheMissDuration,
			Help: "Time from a miss in Redis until the flags were available again, in seconds.",
			// The same buckets as for OFREP: the canary's limits are bucket bounds, so that
			// requests over a limit are counted exactly.
			Buckets: []float64{0.001, 0.002, 0.005, 0.010, 0.025, 0.050, 0.100, 0.150, 0.300, 0.500, 1},
		}),
		waitTimeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricCacheWaitTimeouts,
			Help: "Waits for Redis, such as for another instance's lock, that were too long and ended without it.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricCacheRefused,
			Help: "Lookups in Redis whose document was not used: foreign (of another store), unconfirmed (the source does not have it), implausible (from the future), unverified (sealed with another integrity key).",
		}, []string{"reason"}),
		lastGoodFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricLastGoodFailures,
			Help: "Failures to write the file with the last good flags.",
		}),
	}
	for _, result := range []string{"ok", "error"} {
		m.loads.WithLabelValues(result)
	}
	for _, reason := range []string{refusedForeign, refusedUnconfirmed, refusedImplausible, refusedUnverified} {
		m.refused.WithLabelValues(reason)
	}
	return m
}

// read reads the source once, with a timeout, and counts the result.
func (r *Refresher) read(ctx context.Context) (source.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	r.metrics.loading.Inc()
	defer r.metrics.loading.Dec()
	document, err := r.Source.Load(ctx)
	result := "ok"
	if err != nil {
		result = "error"
	}
	r.metrics.loads.WithLabelValues(result).Inc()
	return document, err
}

// Register registers the metrics of the source and the served flags.
func (r *Refresher) Register(registry prometheus.Registerer) {
	registry.MustRegister(r.metrics.loads, r.metrics.loading, r.metrics.missDuration, r.metrics.waitTimeouts, r.metrics.refused,
		r.metrics.lastGoodFailures)
	registry.MustRegister(info{r})
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge(config.MetricSnapshotAge, "Seconds since the source or Redis last confirmed the served flags.",
		func() float64 { return r.Age().Seconds() })
	gauge(config.MetricSnapshotGeneration, "Number of flag sets that this process has served; 0 before the first.",
		ofCurrent(r, func(s *Snapshot) float64 { return float64(s.Generation) }))
	gauge(config.MetricSnapshotFlags, "Number of flags served.",
		ofCurrent(r, func(s *Snapshot) float64 { return float64(s.Set.Len()) }))
	gauge(config.MetricSnapshotProblems, "Number of problems with single flags in the served document, or in a later one of which all flags were rejected.",
		r.problems)
	gauge(config.MetricCacheForeign, "1 while the document in Redis is that of another store, or sealed with another integrity key, else 0.", func() float64 {
		if r.Foreign() {
			return 1
		}
		return 0
	})
	gauge(config.MetricSourceGood, "1 while the source's document is served, else 0.", func() float64 {
		if r.sourceGood.Load() {
			return 1
		}
		return 0
	})
}

// info collects which document is served.
type info struct{ *Refresher }

var infoDesc = prometheus.NewDesc(config.MetricSnapshotInfo,
	"1, with the SHA-256 of the served document as the label "+config.LabelDigest+".", []string{config.LabelDigest}, nil)

// Describe implements prometheus.Collector.
func (info) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- infoDesc }

// Collect implements prometheus.Collector.
func (i info) Collect(metrics chan<- prometheus.Metric) {
	if current := i.Current(); current != nil {
		metrics <- prometheus.MustNewConstMetric(infoDesc, prometheus.GaugeValue, 1, current.Digest)
	}
}

// problems returns the number of problems of the latest document.
func (r *Refresher) problems() float64 {
	if refused := r.refused.Load(); refused > 0 {
		return float64(refused)
	}
	if current := r.Current(); current != nil {
		return float64(current.Rejected)
	}
	return 0
}

// ofCurrent returns a function that reads a value of the current snapshot, 0
// before the first.
func ofCurrent(r *Refresher, value func(*Snapshot) float64) func() float64 {
	return func() float64 {
		if current := r.Current(); current != nil {
			return value(current)
		}
		return 0
	}
}
