// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/machine"
)

// metricsPort is where the operator serves its metrics.
const metricsPort = 8080

// usage is what the operator uses at rest.
type usage struct {
	goroutines float64
	// heap is the live heap after the last garbage collection, in bytes.
	heap float64
}

func (u usage) String() string {
	return fmt.Sprintf("%.0f goroutines, %.1f MiB of live heap", u.goroutines, u.heap/(1<<20))
}

// within reports whether the usage is that of before, or so much more as caches, pools of
// connections and the fragmentation of the heap explain.
func (u usage) within(before usage) bool {
	return u.goroutines <= before.goroutines*1.1+20 && u.heap <= before.heap*1.25+8<<20
}

// usage reads the operator's usage. Each reading causes garbage, so that repeated ones lead to
// garbage collections.
func (r *rig) usage(ctx context.Context) (usage, error) {
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(cluster.OperatorNamespace)); err != nil {
		return usage{}, err
	}
	if len(pods.Items) != 1 {
		return usage{}, fmt.Errorf("the operator has %d pods", len(pods.Items))
	}
	url := "http://" + net.JoinHostPort(pods.Items[0].Status.PodIP, strconv.Itoa(metricsPort)) + "/metrics"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usage{}, err
	}
	response, err := r.HTTPClient(false).Do(request)
	if err != nil {
		return usage{}, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return usage{}, fmt.Errorf("parsing the operator's metrics: %w", err)
	}
	return usage{goroutines: value(families["go_goroutines"]), heap: value(families["go_gc_heap_live_bytes"])}, nil
}

func value(family *dto.MetricFamily) float64 {
	sum := 0.0
	for _, m := range family.GetMetric() {
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return sum
}

// awaitUsage waits until the operator's usage is that of before. Its sources of garbage are idle
// connections, which are closed after a while, and caches, which a later collection frees.
func (r *rig) awaitUsage(what string, before usage) {
	r.t.Helper()
	var now usage
	err := try(r.t.Context(), func(ctx context.Context) (ok bool, err error) {
		now, err = r.usage(ctx)
		return now.within(before), err
	})
	if err != nil {
		r.t.Errorf("%s the operator uses %s, before %s: %v", what, now, before, err)
		return
	}
	r.log("%s the operator uses %s, before %s", what, now, before)
}

// restingUsage reads the operator's usage once it changes no more: the least of a few readings.
func (r *rig) restingUsage() usage {
	r.t.Helper()
	var least usage
	for i := range 20 {
		var now usage
		r.do("reading the operator's metrics", func(ctx context.Context) (err error) {
			now, err = r.usage(ctx)
			return err
		})
		if i == 0 || now.heap < least.heap {
			least.heap = now.heap
		}
		if i == 0 || now.goroutines < least.goroutines {
			least.goroutines = now.goroutines
		}
	}
	return least
}

// memoryInterval is the time between two readings. The kernel keeps the peak, so that only what
// a process used in its last moments can be missed.
const memoryInterval = 250 * time.Millisecond

// memoryWatch watches the resident memory of the operator's processes.
type memoryWatch struct {
	rig *rig

	mu   sync.Mutex
	pids []int
	peak uint64
}

// watchMemory watches until the test ends.
func (r *rig) watchMemory() *memoryWatch {
	r.t.Helper()
	w := &memoryWatch{rig: r}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticks := time.NewTicker(memoryInterval)
		defer ticks.Stop()
		for {
			select {
			case <-r.t.Context().Done():
				return
			case <-ticks.C:
				if err := w.read(); err != nil {
					r.t.Errorf("watching the operator's memory: %v", err)
					return
				}
			}
		}
	}()
	r.t.Cleanup(func() { <-ended })
	return w
}

// read reads the peak memory of the processes until now.
func (w *memoryWatch) read() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var alive []int
	for _, pid := range w.pids {
		used, err := machine.UsageOf(pid)
		if err != nil {
			continue // it has ended
		}
		alive = append(alive, pid)
		w.peak = max(w.peak, used.PeakRSS)
	}
	w.pids = alive
	if len(alive) > 0 {
		return nil
	}
	var err error
	w.pids, err = w.rig.Processes("manager")
	return err
}

// maximum is the most memory that a process used so far.
func (w *memoryWatch) maximum() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peak
}

// expectNoCrash expects that the operator's container did not end but for the lease that it
// loses if the API server is away for long, with exit status 1.
func (r *rig) expectNoCrash() {
	r.t.Helper()
	pods := &corev1.PodList{}
	r.do("listing the operator's pods", func(ctx context.Context) error {
		return r.Client.List(ctx, pods, client.InNamespace(cluster.OperatorNamespace))
	})
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			if ended := c.LastTerminationState.Terminated; ended != nil && ended.ExitCode != 1 {
				r.t.Errorf("the operator ended with exit status %d, %s", ended.ExitCode, ended.Reason)
			}
		}
	}
}

// explainFailures logs the state of everything if the test fails.
func (r *rig) explainFailures(watch *readiness, namespaces []string) {
	r.t.Cleanup(func() {
		if !r.t.Failed() {
			return
		}
		rest := watch.unsettled(namespaces...)
		r.t.Logf("%d FlagCaches are not settled:\n%s", len(rest), strings.Join(rest[:min(10, len(rest))], "\n"))
		r.t.Logf("the operator's log:\n%s", r.OperatorLog(context.Background(), 40))
	})
}

// memoryLimit is the memory limit of the operator's Deployment.
func (r *rig) memoryLimit() uint64 {
	r.t.Helper()
	d := operatorDeployment()
	r.do("reading the operator's Deployment", func(ctx context.Context) error {
		return r.Client.Get(ctx, client.ObjectKeyFromObject(d), d)
	})
	return uint64(d.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().Value())
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
