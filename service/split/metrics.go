// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

// buckets are in seconds, the same as those of all OFREP requests: the limits
// of a canary's checks are bucket bounds.
var buckets = []float64{0.001, 0.002, 0.005, 0.010, 0.025, 0.050, 0.100, 0.150, 0.300, 0.500, 1}

// maxRevisions is the number of revisions with series, which bounds their
// number in a pod that outlives many candidates. The operator keeps as many
// revisions.
const maxRevisions = 10

var (
	results = []string{config.SplitOK, config.SplitRefused, config.SplitTimeout, config.SplitTruncated, config.SplitError}
	reasons = []string{config.SplitDraining, config.SplitBusy, config.SplitCutOff, config.SplitUnresolved, config.SplitOversized, config.SplitMissing, config.SplitBehind}
)

type metrics struct {
	requests *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	local    prometheus.Counter
	weight   prometheus.Gauge
	fileGood prometheus.Gauge
	// revisions are the revisions with series, the latest last.
	revisions []string
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricSplitRequests,
			Help: "Requests that were forwarded to the candidate, by revision and result; all but ok were answered locally instead.",
		}, []string{"revision", "result"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricSplitSkipped,
			Help: "Requests in the candidate's share that were answered locally without a failure of the candidate, by revision and reason.",
		}, []string{"revision", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    config.MetricSplitDuration,
			Help:    "Duration of requests to the candidate, including failed ones, in seconds.",
			Buckets: buckets,
		}, []string{"revision"}),
		local: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricSplitLocal,
			Help: "Requests that were answered locally during a split.",
		}),
		weight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: config.MetricSplitWeight,
			Help: "Share of the requests that is forwarded to the candidate, in percent.",
		}),
		fileGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: config.MetricSplitFileGood,
			Help: "1 while the split's file is absent or valid, else 0.",
		}),
	}
	m.fileGood.Set(1)
	registry.MustRegister(m.requests, m.skipped, m.duration, m.local, m.weight, m.fileGood)
	return m
}

// series are the metrics of one candidate.
type series struct {
	local    prometheus.Counter
	requests map[string]prometheus.Counter
	skipped  map[string]prometheus.Counter
	duration prometheus.Observer
}

// of returns the series of a revision. They are created at zero, so that a
// reader does not miss the first requests.
func (m *metrics) of(revision string) series {
	m.retain(revision)
	a := series{
		local:    m.local,
		requests: make(map[string]prometheus.Counter, len(results)),
		skipped:  make(map[string]prometheus.Counter, len(reasons)),
		duration: m.duration.WithLabelValues(revision),
	}
	for _, result := range results {
		a.requests[result] = m.requests.WithLabelValues(revision, result)
	}
	for _, reason := range reasons {
		a.skipped[reason] = m.skipped.WithLabelValues(revision, reason)
	}
	return a
}

// retain makes a revision the latest one and deletes the series of the oldest
// one if there are too many.
func (m *metrics) retain(revision string) {
	m.revisions = slices.DeleteFunc(m.revisions, func(r string) bool { return r == revision })
	m.revisions = append(m.revisions, revision)
	if len(m.revisions) > maxRevisions {
		oldest := prometheus.Labels{"revision": m.revisions[0]}
		m.requests.DeletePartialMatch(oldest)
		m.skipped.DeletePartialMatch(oldest)
		m.duration.DeletePartialMatch(oldest)
		m.revisions = m.revisions[1:]
	}
}

// observe counts a request to the candidate and its result.
func (a series) observe(result string, took time.Duration) {
	a.requests[result].Inc()
	a.duration.Observe(took.Seconds())
}

// skip counts a request in the candidate's share that was not forwarded.
func (a series) skip(reason string) {
	a.skipped[reason].Inc()
	a.local.Inc()
}
