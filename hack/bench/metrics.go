// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// gauges are the operator's metrics that the report needs.
type gauges struct {
	// Heap is the live heap after the last garbage collection, in bytes.
	Heap float64
	// Probes, FailedProbes, Reconciles and Reads, which are requests of the API server, are
	// counters.
	Probes, FailedProbes, Reconciles, Reads float64
}

func scrape(ctx context.Context, url string) (gauges, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return gauges{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return gauges{}, fmt.Errorf("requesting the operator's metrics: %w", err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return gauges{}, fmt.Errorf("parsing the operator's metrics: %w", err)
	}
	probes := families["flagcache_probe_duration_seconds"]
	return gauges{
		Heap:         total(families["go_gc_heap_live_bytes"], "", ""),
		Probes:       total(probes, "", ""),
		FailedProbes: total(probes, "result", "failure"),
		Reconciles:   total(families["controller_runtime_reconcile_total"], "", ""),
		Reads:        total(families["rest_client_requests_total"], "method", http.MethodGet),
	}, nil
}

// total sums the values or histogram counts of a metric family. With a label, it sums only
// metrics that have it with a value.
func total(family *dto.MetricFamily, label, value string) float64 {
	sum := 0.0
	for _, metric := range family.GetMetric() {
		if label != "" && !hasLabel(metric, label, value) {
			continue
		}
		sum += metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
	}
	return sum
}

func hasLabel(metric *dto.Metric, name, value string) bool {
	for _, label := range metric.GetLabel() {
		if label.GetName() == name && label.GetValue() == value {
			return true
		}
	}
	return false
}
