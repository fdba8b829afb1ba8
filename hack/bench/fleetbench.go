// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/machine"
	"github.com/flagcache/flagcache/test/programs"
)

// fleetResult is the cost of a fleet of FlagCaches.
type fleetResult struct {
	FlagCaches int
	// Restarted is set if the operator was started after all FlagCaches were created.
	Restarted bool
	// Duration is the time from the creation of the first FlagCache until all were
	// Ready; after a restart, until all were probed again. CPU is the CPU time that the
	// operator used in it, RSS its peak memory in bytes.
	Duration, CPU time.Duration
	RSS           uint64
	// Writes are those of the operator until then; after a restart, until the steady
	// state.
	Writes counter.Tally
	// Cost and Steady are the resource usage and the writes of the operator in the
	// steady state during Window; they are not measured after a restart.
	Window time.Duration
	Cost   cost
	Steady counter.Tally
}

// fleetBench measures on a cluster with simulated pods.
type fleetBench struct {
	*cluster.Cluster
	options
	progress   progress
	started    *processes
	writes     *counter.Counter
	kubeconfig string
	flags      map[string]string
	redis      redis
}

// benchFleets measures the operator with each number of FlagCaches, and its restart with
// the last.
func benchFleets(ctx context.Context, o options, out progress, r *report) error {
	out.log("starting a cluster with pods simulated by kwok")
	bare := cluster.Options{Kube: o.programs.Kube, ControlPlaneOnly: true, Progress: func(line string) { out.log("  %s", line) }}
	return withCluster(ctx, bare, func(ctx context.Context, c *cluster.Cluster, started *processes) (err error) {
		ctx, cancel := context.WithCancel(ctx)
		b := &fleetBench{Cluster: c, options: o, progress: out, started: started}
		counting := make(chan error, 1)
		if b.writes, b.kubeconfig, err = startCounter(ctx, c, started, counting); err != nil {
			cancel()
			return err
		}
		defer func() {
			cancel()
			err = errors.Join(err, <-counting)
		}()
		if err := b.prepare(ctx); err != nil {
			return err
		}
		r.Fleets, err = b.run(ctx)
		return err
	})
}

// run measures each size, and the restart with the last.
func (b *fleetBench) run(ctx context.Context) ([]fleetResult, error) {
	var results []fleetResult
	for i, n := range b.sizes {
		l, err := b.measure(ctx, n, i == len(b.sizes)-1)
		if err != nil {
			return nil, fmt.Errorf("measuring %d FlagCaches: %w", n, err)
		}
		results = append(results, l)
	}
	last := b.sizes[len(b.sizes)-1]
	l, err := b.measureRestart(ctx, last)
	if err != nil {
		return nil, fmt.Errorf("measuring a restart with %d FlagCaches: %w", last, err)
	}
	return append(results, l), nil
}

func (b *fleetBench) prepare(ctx context.Context) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "apply", "--server-side", "--kustomize", filepath.Join(root, "config", "crd")); err != nil {
		return fmt.Errorf("installing the CRD: %w", err)
	}
	err = poll(ctx, func(ctx context.Context) (bool, error) {
		err := b.Client.List(ctx, &v1alpha1.FlagCacheList{})
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the CRD to be served: %w", err)
	}
	if b.flags, err = sampleFlags(); err != nil {
		return err
	}
	if b.redis, err = b.started.startRedis(b.programs.Redis); err != nil {
		return err
	}
	return b.started.startKwok(ctx, b.Cluster)
}

func (b *fleetBench) tally(context.Context) (counter.Tally, error) { return b.writes.Tally(), nil }

// measure measures an operator that reconciles a new fleet and then idles. The last fleet
// is not deleted.
func (b *fleetBench) measure(ctx context.Context, n int, last bool) (fleetResult, error) {
	l := fleetResult{FlagCaches: n}
	o, err := b.started.startOperator(ctx, b.programs.Manager, b.kubeconfig)
	if err != nil {
		return l, err
	}
	before, start := b.writes.Tally(), time.Now()
	if err := b.createFleet(ctx, n); err != nil {
		return l, err
	}
	l.Duration = time.Since(start)
	l.Writes = b.writes.Tally().Since(before)
	if err := l.recordUsage(o); err != nil {
		return l, err
	}
	b.progress.log("%d FlagCaches: Ready after %.1f s, waiting for the steady state", n, l.Duration.Seconds())
	if err := awaitSteady(ctx, b.tally); err != nil {
		return l, err
	}
	l.Window = b.windowFor(n)
	b.progress.log("%d FlagCaches: measuring the steady state for %s", n, l.Window)
	steady := b.writes.Tally()
	if l.Cost, err = o.watch(ctx, l.Window); err != nil {
		return l, err
	}
	l.Steady = b.writes.Tally().Since(steady)
	b.progress.log("%d FlagCaches: %s of memory, %s of a core, %d writes", n, mebibytes(l.Cost.RSS), percent(l.Cost.CPU), l.Steady.Of(isCost))
	if !last {
		if err := b.deleteFleet(ctx, n); err != nil {
			return l, err
		}
	}
	return l, o.stop()
}

// measureRestart measures an operator that starts with an existing fleet of n.
func (b *fleetBench) measureRestart(ctx context.Context, n int) (fleetResult, error) {
	b.progress.log("%d FlagCaches: restarting the operator", n)
	l := fleetResult{FlagCaches: n, Restarted: true}
	before, start := b.writes.Tally(), time.Now()
	o, err := b.started.startOperator(ctx, b.programs.Manager, b.kubeconfig)
	if err != nil {
		return l, err
	}
	if err := o.awaitProbes(ctx, n); err != nil {
		return l, err
	}
	l.Duration = time.Since(start)
	if err := l.recordUsage(o); err != nil {
		return l, err
	}
	if err := awaitSteady(ctx, b.tally); err != nil {
		return l, err
	}
	l.Writes = b.writes.Tally().Since(before)
	return l, o.stop()
}

// recordUsage records the resource usage of the operator until now.
func (l *fleetResult) recordUsage(o *operator) error {
	used, err := machine.UsageOf(o.Cmd.Process.Pid)
	l.CPU, l.RSS = used.CPU, used.PeakRSS
	return err
}
