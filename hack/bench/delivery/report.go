// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/test/machine"
)

// Cases, as in the report.
const (
	caseAll    = "everything available"
	caseKilled = "the operator killed"
	caseMount  = "without Redis, by the mount"
)

// target is the aim for P99 until every pod has a change.
const target = time.Second

// result is what was measured with a number of pods.
type result struct {
	Pods int
	Case string
	// Every has, for each change, the time until the last pod had it; Pod has that of each
	// pod.
	Every, Pod []time.Duration
	// Stale counts answers with an older value after the event.
	Stale  int
	Writes writes
}

func (r *result) record(pods []time.Duration, stale int) {
	r.Every = append(r.Every, slices.Max(pods))
	r.Pod = append(r.Pod, pods...)
	r.Stale += stale
}

// quantile returns a quantile of at least one duration: the smallest that so many are not
// above.
func quantile(of []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	index := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(index, 0), len(sorted)-1)]
}

// report is everything that was measured.
type report struct {
	Machine machine.Machine
	Started time.Time
	Options options
	Results []result
}

const introduction = `# Benchmarks of the delivery of flags

Written by ` + "`make bench-delivery`" + ` on %s; do not edit this part. Run it to measure on your own machine.

Machine: %s, %d cores; %s %s. The API server, the operator, Redis and all pods ran on it.

From the write of the user's ConfigMap until pods answer from it, on the local cluster, whose kubelet has the default timings
of Kubernetes. A pod has a change when it notifies its clients; each then answered a request of such a client.

## Time until the change is served

`

const explanation = `
*Every pod* is the time until the last pod had a change. With the operator killed, it is frozen when the ConfigMap is written and
deleted then: the time includes the start of its successor and the expiry of its lease. *Stale* counts answers with an older
value after the pod's event.

## API writes

Those of the operator in the namespace of the FlagCache, for each change, from the audit log of the API server. They do not
depend on the number of pods.

`

// render writes the report as Markdown.
func (r report) render() string {
	times := page.NewTable("Pods", "Case", "Changes", "Every pod: P50", "P99", "Maximum", "One pod: P50", "Target for P99", "", "Stale")
	writes := page.NewTable("Pods", "Case", "Published ConfigMap", "Status", "Events", "Other")
	for _, x := range r.Results {
		p99, aim, verdict := quantile(x.Every, 0.99), "none", ""
		if x.Case == caseAll {
			aim, verdict = "under "+seconds(target), page.Verdict(p99 < target)
		}
		times.Row(fmt.Sprint(x.Pods), x.Case, fmt.Sprint(len(x.Every)), seconds(quantile(x.Every, 0.5)), seconds(p99), seconds(slices.Max(x.Every)),
			seconds(quantile(x.Pod, 0.5)), aim, verdict, fmt.Sprint(x.Stale))
		each := func(n int) string { return fmt.Sprintf("%.2f", float64(n)/float64(len(x.Every))) }
		writes.Row(fmt.Sprint(x.Pods), x.Case, each(x.Writes.ConfigMaps), each(x.Writes.Status), each(x.Writes.Events), each(x.Writes.Other))
	}
	return fmt.Sprintf(introduction, r.Started.UTC().Format(time.DateOnly), r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.OS) +
		times.String() + "\n" + explanation + writes.String() + "\n"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
