// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

// buckets are in seconds, and those of OFREP.
var buckets = []float64{0.001, 0.002, 0.005, 0.010, 0.025, 0.050, 0.100, 0.150, 0.300, 0.500, 1}

// Metrics are the metrics of the requests of flagd's protocols. The evaluations are
// counted with those of OFREP.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	unknown  prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricFlagdRequests,
			Help: "Requests of flagd's protocols by service, method, and the code of the response.",
		}, []string{"service", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    config.MetricFlagdRequestDuration,
			Help:    "Time from the headers of a request of flagd's protocols to the end of its response, in seconds, without streams.",
			Buckets: buckets,
		}, []string{"service"}),
	}
	m.unknown = m.requests.WithLabelValues("other", "other", "unimplemented")
	registry.MustRegister(m.requests, m.duration)
	return m
}

// counts are the metrics of a procedure.
type counts struct {
	requests *prometheus.CounterVec
	duration prometheus.Observer
}

// of returns the metrics of a procedure. The duration of streams is not measured.
func (m *Metrics) of(service, method string, streams bool) *counts {
	c := &counts{requests: m.requests.MustCurryWith(prometheus.Labels{"service": service, "method": method})}
	if !streams {
		c.duration = m.duration.WithLabelValues(service)
	}
	return c
}

func (c *counts) observe(code string, took time.Duration) {
	if c.duration != nil {
		c.duration.Observe(took.Seconds())
	}
	c.requests.WithLabelValues(code).Inc()
}
