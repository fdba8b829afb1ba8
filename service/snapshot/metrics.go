// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

// Register registers the metrics about what is served.
func (r *Refresher) Register(registry prometheus.Registerer) {
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge(config.MetricSnapshotAge, "Seconds since source or Redis last confirmed the flags being served.",
		func() float64 { return r.Age().Seconds() })
	gauge(config.MetricSnapshotGeneration, "How many sets of flags this process has served; 0 before the first.",
		r.of(func(s *Snapshot) float64 { return float64(s.Generation) }))
	gauge(config.MetricSnapshotFlags, "How many flags are being served.",
		r.of(func(s *Snapshot) float64 { return float64(s.Set.Len()) }))
	gauge(config.MetricSnapshotProblems, "How many problems single flags of the document being served have.",
		r.of(func(s *Snapshot) float64 { return float64(s.Rejected) }))
	gauge(config.MetricSourceGood, "1 while the source's document is the one being served, else 0.", func() float64 {
		if r.sourceGood.Load() {
			return 1
		}
		return 0
	})
}

// of reads a value off the current snapshot, 0 before the first.
func (r *Refresher) of(value func(*Snapshot) float64) func() float64 {
	return func() float64 {
		if current := r.Current(); current != nil {
			return value(current)
		}
		return 0
	}
}
