// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/test/machine"
)

// The targets in steady state with targetSize FlagCaches.
const (
	targetSize   = 1000
	targetMemory = 150 << 20
	targetCPU    = 0.10
)

// report is everything that was measured.
type report struct {
	Machine machine.Machine
	Started time.Time
	Window  time.Duration
	// Creations are measured with real pods; PodsSteady are the writes in the steady
	// state after them, during Window.
	Creations  []creation
	PodsSteady counter.Tally
	Fleets     []fleetResult
}

//go:embed report.md.tmpl
var reportText string

// render writes the report as Markdown.
func (r report) render() (string, error) {
	page, err := template.New("report").Funcs(template.FuncMap{
		"mebibytes": mebibytes,
	}).Parse(reportText)
	if err != nil {
		return "", fmt.Errorf("parsing the report's template: %w", err)
	}
	var text strings.Builder
	if err := page.Execute(&text, r); err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	return text.String(), nil
}

// TargetsTable reports for each target whether it was met.
func (r report) TargetsTable() string {
	t := page.NewTable("Target", "Measured", "")
	fleets := r.SteadyFleets()
	i := slices.IndexFunc(fleets, func(l fleetResult) bool { return l.FlagCaches == targetSize })
	if i < 0 {
		return "Not measured."
	}
	l := fleets[i]
	writes := l.Steady.Of(isCost)
	t.Row("no API writes in "+formatWholeSeconds(l.Window), page.Thousands(writes), page.Verdict(writes == 0))
	t.Row("less than "+mebibytes(targetMemory), mebibytes(l.Cost.RSS), page.Verdict(l.Cost.RSS < targetMemory))
	t.Row(fmt.Sprintf("less than %s of a core", percent(targetCPU)), percent(l.Cost.CPU), page.Verdict(l.Cost.CPU < targetCPU))
	return t.String()
}

// CreationTable is the time from kubectl apply to Ready.
func (r report) CreationTable() string {
	t := page.NewTable("Cache", "Apply to Ready", "Fastest", "Slowest", "kubectl", "Pods starting", "Share of pods")
	for _, cache := range r.caches() {
		creations := r.of(cache)
		total := durations(creations, func(a creation) time.Duration { return a.Total })
		kubectl := durations(creations, func(a creation) time.Duration { return a.Kubectl })
		pods := durations(creations, func(a creation) time.Duration { return a.Pods })
		t.Row(string(cache), formatSeconds(page.Median(total)), formatSeconds(slices.Min(total)), formatSeconds(slices.Max(total)),
			formatSeconds(page.Median(kubectl)), formatSeconds(page.Median(pods)), page.Percent(page.Median(pods).Seconds()/page.Median(total).Seconds(), 0))
	}
	return t.String()
}

// WritesTable is the number of API writes per FlagCache until it is Ready.
func (r report) WritesTable() string {
	t := page.NewTable("FlagCache", "Children created", "Children updated", "FlagCache", "Status", "All writes", "Rejected", "Events")
	add := func(name string, tallies []counter.Tally, share float64) {
		cells := []string{name}
		for _, kind := range writeKinds {
			var counts []float64
			for _, tally := range tallies {
				counts = append(counts, float64(tally.Of(kind))/share)
			}
			cells = append(cells, fmt.Sprintf("%.4g", page.Median(counts)))
		}
		t.Row(cells...)
	}
	for _, cache := range r.caches() {
		var tallies []counter.Tally
		for _, a := range r.of(cache) {
			tallies = append(tallies, a.Writes)
		}
		add(string(cache), tallies, 1)
	}
	for _, l := range r.SteadyFleets() {
		if l.FlagCaches > 0 {
			add(fmt.Sprintf("External, one of %s", page.Thousands(l.FlagCaches)), []counter.Tally{l.Writes}, float64(l.FlagCaches))
		}
	}
	return t.String()
}

// writeKinds are the columns of the table of writes.
var writeKinds = []func(counter.Write) bool{
	func(w counter.Write) bool { return isChild(w) && w.Method == "POST" },
	func(w counter.Write) bool { return isChild(w) && w.Method != "POST" },
	func(w counter.Write) bool { return isFlagCache(w) && w.Subresource == "" },
	func(w counter.Write) bool { return isFlagCache(w) && w.Subresource == "status" },
	counter.IsChange,
	func(w counter.Write) bool { return counter.IsChange(w) && w.Refused },
	counter.IsEvent,
}

func isFlagCache(w counter.Write) bool {
	return w.Resource == "flagcaches."+v1alpha1.GroupVersion.Group
}

func isChild(w counter.Write) bool { return counter.IsChange(w) && !isFlagCache(w) }

// SteadyWritesTable is the number of API writes in steady state.
func (r report) SteadyWritesTable() string {
	t := page.NewTable("FlagCaches", "Duration", "Writes", "Events", "Lease renewals")
	add := func(name string, window time.Duration, tally counter.Tally) {
		t.Row(name, formatWholeSeconds(window), page.Thousands(tally.Of(counter.IsChange)), page.Thousands(tally.Of(counter.IsEvent)), page.Thousands(tally.Of(counter.IsLease)))
	}
	add(fmt.Sprintf("%d with real pods", len(r.Creations)), r.Window, r.PodsSteady)
	for _, l := range r.SteadyFleets() {
		add(page.Thousands(l.FlagCaches), l.Window, l.Steady)
	}
	return t.String()
}

// SteadyCostTable is the resource usage of the operator in steady state.
func (r report) SteadyCostTable() string {
	t := page.NewTable("FlagCaches", "Duration", "RSS", "Live Go heap", "CPU of one core", "Probes", "Failed probes", "Reconciliations")
	for _, l := range r.SteadyFleets() {
		c := l.Cost
		t.Row(page.Thousands(l.FlagCaches), formatWholeSeconds(l.Window), mebibytes(c.RSS), mebibytes(uint64(c.Heap)), percent(c.CPU),
			page.Thousands(int(c.Probes)), page.Thousands(int(c.FailedProbes)), page.Thousands(int(c.Reconciles)))
	}
	return t.String()
}

// ScaleTable is the cost of creating many FlagCaches, and of a restart with them.
func (r report) ScaleTable() string {
	t := page.NewTable("FlagCaches", "Time", "CPU time", "Peak RSS", "Writes", "Events")
	for _, l := range r.Fleets {
		if l.FlagCaches == 0 {
			continue
		}
		name := page.Thousands(l.FlagCaches)
		if l.Restarted {
			name += ", operator restarted"
		}
		t.Row(name, fmt.Sprintf("%.1f s", l.Duration.Seconds()), fmt.Sprintf("%.1f s", l.CPU.Seconds()), mebibytes(l.RSS),
			page.Thousands(l.Writes.Of(counter.IsChange)), page.Thousands(l.Writes.Of(counter.IsEvent)))
	}
	return t.String()
}

// SteadyFleets are the fleets that were measured in steady state.
func (r report) SteadyFleets() []fleetResult {
	return slices.DeleteFunc(slices.Clone(r.Fleets), func(l fleetResult) bool { return l.Restarted })
}

// caches returns the measured types of caches, in order.
func (r report) caches() []v1alpha1.CacheType {
	var caches []v1alpha1.CacheType
	for _, a := range r.Creations {
		if !slices.Contains(caches, a.Cache) {
			caches = append(caches, a.Cache)
		}
	}
	return caches
}

func (r report) of(cache v1alpha1.CacheType) []creation {
	return slices.DeleteFunc(slices.Clone(r.Creations), func(a creation) bool { return a.Cache != cache })
}

func durations(creations []creation, of func(creation) time.Duration) []time.Duration {
	var ds []time.Duration
	for _, a := range creations {
		ds = append(ds, of(a))
	}
	return ds
}
