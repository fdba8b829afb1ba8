// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

// buckets are in seconds, the same as those of all OFREP requests: the limits of
// a canary's checks are edges.
var buckets = []float64{0.001, 0.002, 0.005, 0.010, 0.025, 0.050, 0.100, 0.150, 0.300, 0.500, 1}

// maxRevisions is how many revisions have series, which bounds their number in a
// pod that outlives many candidates. It is as many as the operator keeps.
const maxRevisions = 10

var (
	results = []string{config.SplitOK, config.SplitRefused, config.SplitTimeout, config.SplitTruncated, config.SplitError}
	reasons = []string{config.SplitDraining, config.SplitBusy, config.SplitCutOff, config.SplitUnresolved}
)

type metrics struct {
	requests *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	local    prometheus.Counter
	weight   prometheus.Gauge
	fileGood prometheus.Gauge
	// revisions are those that have series, the latest last.
	revisions []string
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricSplitRequests,
			Help: "Requests that the candidate was asked, by revision and result; all but ok were answered here instead.",
		}, []string{"revision", "result"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricSplitSkipped,
			Help: "Requests in the candidate's share that were answered here through no failure of its own, by revision and reason.",
		}, []string{"revision", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    config.MetricSplitDuration,
			Help:    "Time that the candidate took for a request, failed ones included, in seconds.",
			Buckets: buckets,
		}, []string{"revision"}),
		local: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricSplitLocal,
			Help: "Requests that were not handed to the candidate while a split was on.",
		}),
		weight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: config.MetricSplitWeight,
			Help: "Share of the requests that is handed to the candidate, in percent.",
		}),
		fileGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: config.MetricSplitFileGood,
			Help: "1 while the split's file is absent or can be understood, 0 while it cannot.",
		}),
	}
	m.fileGood.Set(1)
	registry.MustRegister(m.requests, m.skipped, m.duration, m.local, m.weight, m.fileGood)
	return m
}

// account is what is counted about one candidate.
type account struct {
	local    prometheus.Counter
	requests map[string]prometheus.Counter
	skipped  map[string]prometheus.Counter
	duration prometheus.Observer
}

// open returns a revision's account. Its series are there from the start, at
// zero, so that whoever reads them misses none of the first requests.
func (m *metrics) open(revision string) account {
	m.keep(revision)
	a := account{
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

// keep makes a revision the latest one and forgets the oldest of too many.
func (m *metrics) keep(revision string) {
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

// answered counts what the candidate was asked and came to.
func (a account) answered(result string, took time.Duration) {
	a.requests[result].Inc()
	a.duration.Observe(took.Seconds())
}

// skip counts a request that the candidate was to have and did not get.
func (a account) skip(reason string) {
	a.skipped[reason].Inc()
	a.local.Inc()
}
