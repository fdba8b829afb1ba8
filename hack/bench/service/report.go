// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/test/machine"
)

// targetP99 is the target for every case at half of the maximum throughput.
const targetP99 = 2 * time.Millisecond

// report is everything that was measured.
type report struct {
	Machine machine.Machine
	Started time.Time
	// Load is the 1-minute load average before the benchmark: well below 1 on an idle
	// machine.
	Load    string
	Options options
	Results []result
}

const introduction = `# Benchmarks of the flag service

Written by ` + "`make bench-service`" + ` on %s; do not edit this part. Run it to measure on your own machine:
it takes about two minutes and requires Linux and two idle cores.

Machine: %s, %d cores; %s %s. The load average before was %s; above 1 the machine was busy, which
mostly affects P99.

The server is pinned to one core and the load generator to another. %d connections evaluate %d flags for %s
users in turn. *Bare* is a net/http handler that returns the same bytes without reading the
request. The cost of a request is the user and system CPU time of the server.
Medians of %d rounds of %s each, alternating between the bare handler and the flag service; the ratio is that of the medians.

`

const explanation = `
*Requests per second* is the maximum on one core. *P99* is at half of that rate, the median of the rounds, with latencies
measured from the scheduled time of a request. *Allocations* are per request, including those of net/http.
`

// render writes the report as Markdown.
func (r report) render() string {
	return fmt.Sprintf(introduction, r.Started.UTC().Format("2006-01-02"),
		r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.OS, r.Load,
		r.Options.connections, flagCount, page.Thousands(users), r.Options.rounds, r.Options.window) +
		"## Cost of a request\n\n" + r.costs() + "\n\n## Speed\n\n" + r.speed() + "\n" + explanation
}

func (r report) costs() string {
	t := page.NewTable("Evaluation", "Requests per CPU second", "Bare", "Ratio", "Target", "", "CPU µs per request", "Bare")
	for _, x := range r.Results {
		target, verdict := "none", ""
		if x.Case.target > 0 {
			target, verdict = fmt.Sprintf("at least %.2f", x.Case.target), page.Verdict(x.ratio() >= x.Case.target)
		}
		service, bare := x.Service.perCPUSecond(), x.Bare.perCPUSecond()
		t.Row(x.Case.name, page.Thousands(int(service)), page.Thousands(int(bare)), fmt.Sprintf("%.2f", x.ratio()), target, verdict,
			fmt.Sprintf("%.1f", 1e6/service), fmt.Sprintf("%.1f", 1e6/bare))
	}
	return t.String()
}

func (r report) speed() string {
	t := page.NewTable("Evaluation", "Requests per second", "Bare", "P99 at half load", "Bare", "Target", "", "Allocations", "Bare")
	for _, x := range r.Results {
		t.Row(x.Case.name, page.Thousands(int(x.Service.perSecond())), page.Thousands(int(x.Bare.perSecond())),
			milliseconds(page.Median(x.Service.P99s)), milliseconds(page.Median(x.Bare.P99s)), "under "+milliseconds(targetP99), page.Verdict(page.Median(x.Service.P99s) < targetP99),
			fmt.Sprintf("%.1f", x.Service.allocations()), fmt.Sprintf("%.1f", x.Bare.allocations()))
	}
	return t.String()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }

// ratio is the throughput of the flag service relative to the bare handler.
func (r result) ratio() float64 { return r.Service.perCPUSecond() / r.Bare.perCPUSecond() }

func (f figures) perCPUSecond() float64 {
	return f.median(func(s sample) float64 { return s.PerCPUSecond })
}

func (f figures) perSecond() float64 {
	return f.median(func(s sample) float64 { return s.PerSecond })
}

func (f figures) allocations() float64 {
	return f.median(func(s sample) float64 { return s.Allocations })
}

func (f figures) median(of func(sample) float64) float64 {
	values := make([]float64, 0, len(f.Samples))
	for _, s := range f.Samples {
		values = append(values, of(s))
	}
	return page.Median(values)
}
