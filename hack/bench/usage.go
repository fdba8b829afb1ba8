// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// clockTicks is the unit of CPU time in /proc, in a second (USER_HZ).
const clockTicks = 100

// usage is what a process has used, as the kernel tells.
type usage struct {
	// CPU is user and system time since its start.
	CPU time.Duration
	// RSS is the resident memory in bytes, PeakRSS the most since its start.
	RSS, PeakRSS uint64
}

func usageOf(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("asking the kernel: %w", err)
	}
	if u.CPU, err = cpuTime(string(stat)); err != nil {
		return u, err
	}
	status, err := readFields(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	if u.RSS, err = kibibytes(status["VmRSS"]); err != nil {
		return u, err
	}
	u.PeakRSS, err = kibibytes(status["VmHWM"])
	return u, err
}

// cpuTime reads user and system time from /proc/PID/stat. The program's name,
// field 2, is in parentheses and may hold anything.
func cpuTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const user, system = 14 - 3, 15 - 3 // the rest begins with field 3
	if len(fields) <= system {
		return 0, fmt.Errorf("reading %q: fields are missing", stat)
	}
	ticks := 0
	for _, text := range []string{fields[user], fields[system]} {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("reading %q as CPU time: %w", text, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// gauges are the figures of an operator's metrics that the report needs.
type gauges struct {
	// Heap is what the last garbage collection found in use, in bytes.
	Heap float64
	// Probes and FailedProbes count probes, Reconciles reconciles.
	Probes, FailedProbes, Reconciles float64
}

func scrape(ctx context.Context, url string) (gauges, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return gauges{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return gauges{}, fmt.Errorf("asking the operator for its metrics: %w", err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return gauges{}, fmt.Errorf("reading the operator's metrics: %w", err)
	}
	probes := families["flagcache_probe_duration_seconds"]
	return gauges{
		Heap:         total(families["go_gc_heap_live_bytes"], ""),
		Probes:       total(probes, ""),
		FailedProbes: total(probes, "failure"),
		Reconciles:   total(families["controller_runtime_reconcile_total"], ""),
	}, nil
}

// total sums a family of metrics: values, or counts of a histogram. With a result
// it sums only those that carry it as label.
func total(family *dto.MetricFamily, result string) float64 {
	sum := 0.0
	for _, metric := range family.GetMetric() {
		if result != "" && !hasResult(metric, result) {
			continue
		}
		sum += metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
	}
	return sum
}

func hasResult(metric *dto.Metric, result string) bool {
	for _, label := range metric.GetLabel() {
		if label.GetName() == "result" && label.GetValue() == result {
			return true
		}
	}
	return false
}
