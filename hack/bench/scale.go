// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/machine"
	"github.com/flagcache/flagcache/test/programs"
)

// scaleCommand measures an operator with very many FlagCaches at rest, and its start.
const scaleCommand = "scale"

// broken is the FlagCache that is broken while the operator is stopped.
const broken = "cache-0"

// scaleReport is the result.
type scaleReport struct {
	Machine    machine.Machine
	Started    time.Time
	FlagCaches int
	Window     time.Duration
	// Rest is at rest, and Writes those of the operator then.
	Rest   cost
	Writes int
	// Start is until a restarted operator has restored what was broken, and Empty the same
	// with this FlagCache alone.
	Start, Empty start
}

// start is what an operator needs from its start until a FlagCache is reconciled.
type start struct {
	Time, CPU time.Duration
	RSS       uint64
}

//go:embed scale.md.tmpl
var scaleText string

// runScale measures and writes the report.
func runScale(ctx context.Context, args []string) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	var o options
	fs := flag.NewFlagSet(scaleCommand, flag.ExitOnError)
	n := fs.Int("flagcaches", 10_000, "Number of FlagCaches.")
	fs.DurationVar(&o.window, "window", time.Minute, "How long to measure the steady state.")
	fs.StringVar(&o.output, "output", filepath.Join(root, "docs", "benchmarks.md"), "File to write the report to.")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := o.findPrograms(); err != nil {
		return err
	}
	out := newProgress(os.Stdout)
	r := scaleReport{FlagCaches: *n, Window: o.window, Started: time.Now()}
	if r.Machine, err = machine.This(); err != nil {
		return err
	}
	err = withAPIServer(ctx, filepath.Join(root, "config", "crd", "bases"), func(ctx context.Context, c *cluster.Cluster, started *processes) error {
		b := &fleetBench{Cluster: c, options: o, progress: out, started: started}
		return b.scale(ctx, &r)
	})
	if err != nil {
		return err
	}
	text, err := r.render()
	if err != nil {
		return err
	}
	fmt.Print("\n", text, "\n")
	return page.Write(o.output, text)
}

func (r scaleReport) render() (string, error) {
	t, err := template.New("scale").Funcs(template.FuncMap{"mebibytes": mebibytes, "thousands": page.Thousands}).Parse(scaleText)
	if err != nil {
		return "", fmt.Errorf("parsing the report's template: %w", err)
	}
	var text strings.Builder
	if err := t.Execute(&text, r); err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	return text.String(), nil
}

// Table lists what the operator needs at rest.
func (r scaleReport) Table() string {
	t := page.NewTable("", "Measured")
	t.Row("Writes in "+formatWholeSeconds(r.Window), page.Thousands(r.Writes))
	t.Row("Reads in "+formatWholeSeconds(r.Window), page.Thousands(int(r.Rest.Reads)))
	t.Row("RSS", mebibytes(r.Rest.RSS))
	t.Row("Live Go heap", mebibytes(uint64(r.Rest.Heap)))
	t.Row("CPU of one core", percent(r.Rest.CPU))
	t.Row("Probes", page.Thousands(int(r.Rest.Probes)))
	t.Row("Failed probes", page.Thousands(int(r.Rest.FailedProbes)))
	return t.String()
}

// StartTable compares the start with that of an operator with one FlagCache.
func (r scaleReport) StartTable() string {
	t := page.NewTable("FlagCaches", "CPU time", "Time", "Peak RSS")
	t.Row("1", formatSeconds(r.Empty.CPU), formatSeconds(r.Empty.Time), mebibytes(r.Empty.RSS))
	t.Row(page.Thousands(r.FlagCaches), formatSeconds(r.Start.CPU), formatSeconds(r.Start.Time), mebibytes(r.Start.RSS))
	return t.String()
}

// withAPIServer runs a part of the benchmark on an API server without controllers: the
// Deployment controller and its pods would cost more than this machine has, and the operator
// only sees the status of Deployments.
func withAPIServer(ctx context.Context, crds string, part func(ctx context.Context, c *cluster.Cluster, started *processes) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	env := &envtest.Environment{CRDDirectoryPaths: []string{crds}, ErrorIfCRDPathMissing: true}
	env.ControlPlane.GetAPIServer().Configure().
		Set("enable-priority-and-fairness", "false").
		Set("service-cluster-ip-range", "10.0.0.0/16") // one for each FlagCache; the default has 253
	config, err := env.Start()
	if err != nil {
		return fmt.Errorf("starting an API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	c, err := cluster.Connect(config)
	if err != nil {
		return err
	}
	return withProcesses(ctx, cancel, c, part)
}

// scale creates one FlagCache, then all, and measures each.
func (b *fleetBench) scale(ctx context.Context, r *scaleReport) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	counting := make(chan error, 1)
	if b.writes, b.kubeconfig, err = startCounter(ctx, b.Cluster, b.started, counting); err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, <-counting)
	}()
	b.writes.DropEvents()
	if b.flags, err = sampleFlags(); err != nil {
		return err
	}
	if b.redis, err = b.started.startRedis(b.programs.Redis); err != nil {
		return err
	}
	playing := make(chan error, 1)
	go func() { playing <- playDeployments(ctx, b.Client) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-playing)
	}()
	if r.Empty, err = b.grow(ctx, 0, 1, nil); err != nil {
		return err
	}
	r.Start, err = b.grow(ctx, 1, r.FlagCaches, func(o *operator) error {
		b.progress.log("%d FlagCaches: measuring the steady state for %s", r.FlagCaches, r.Window)
		before := b.writes.Tally()
		if r.Rest, err = o.watch(ctx, r.Window); err != nil {
			return err
		}
		r.Writes = b.writes.Tally().Since(before).Of(isCost)
		return nil
	})
	return err
}

// grow creates FlagCaches until there are n, measures at rest, and then how long a restarted
// operator takes to restore one.
func (b *fleetBench) grow(ctx context.Context, from, n int, measure func(*operator) error) (s start, err error) {
	o, err := b.started.startOperator(ctx, b.programs.Manager, b.kubeconfig)
	if err != nil {
		return s, err
	}
	if err := b.createScale(ctx, from, n); err != nil {
		return s, err
	}
	if err := o.stop(); err != nil {
		return s, err
	}
	// What is measured is an operator that did not create what it has in its caches.
	if o, err = b.started.startOperator(ctx, b.programs.Manager, b.kubeconfig); err != nil {
		return s, err
	}
	if err := o.awaitProbes(ctx, n); err != nil {
		return s, err
	}
	if err := awaitSteady(ctx, b.tally); err != nil {
		return s, err
	}
	if measure != nil {
		if err := measure(o); err != nil {
			return s, err
		}
	}
	if err := o.stop(); err != nil {
		return s, err
	}
	return b.measureStart(ctx)
}

// createScale creates FlagCaches with an operator, and waits until they are Ready.
func (b *fleetBench) createScale(ctx context.Context, from, n int) error {
	tenants := b.tenants(fleetNamespaces)
	for _, t := range tenants {
		if err := t.createIn(ctx, b.Client); err != nil {
			return err
		}
	}
	created := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := b.createFlagCaches(ctx, from, n, tenants)
		if err != nil {
			cancel()
		}
		created <- err
	}()
	err := b.awaitReady(ctx, n)
	return errors.Join(<-created, err)
}

// createIn creates the namespace without waiting for controllers, of which there are none.
func (t tenant) createIn(ctx context.Context, c client.Client) error {
	secret, err := t.secret()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.namespace}}
	for _, o := range []client.Object{namespace, t.configMap(), secret} {
		if err := c.Create(ctx, o); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("preparing namespace %s: %w", t.namespace, err)
		}
	}
	return nil
}

// measureStart breaks a FlagCache, starts an operator and measures until it has restored it.
func (b *fleetBench) measureStart(ctx context.Context) (s start, err error) {
	b.progress.log("starting the operator with a broken FlagCache")
	namespace := b.tenants(fleetNamespaces)[0].namespace
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: broken}}
	if err := b.Client.Delete(ctx, service); err != nil {
		return s, fmt.Errorf("breaking FlagCache %s: %w", broken, err)
	}
	began := time.Now()
	o, err := b.started.startOperator(ctx, b.programs.Manager, b.kubeconfig)
	if err != nil {
		return s, err
	}
	err = poll(ctx, func(ctx context.Context) (bool, error) {
		err := b.Client.Get(ctx, client.ObjectKeyFromObject(service), service)
		return err == nil, client.IgnoreNotFound(err)
	})
	if err != nil {
		return s, fmt.Errorf("waiting until FlagCache %s is restored: %w", broken, err)
	}
	s.Time = time.Since(began)
	used, err := machine.UsageOf(o.Cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	s.CPU, s.RSS = used.CPU, used.PeakRSS
	return s, o.stop()
}

// playDeployments reports all pods of every Deployment as available, until ctx is done.
func playDeployments(ctx context.Context, c client.WithWatch) error {
	for ctx.Err() == nil {
		list := &appsv1.DeploymentList{}
		if err := c.List(ctx, list); err != nil {
			return ignoreDone(ctx, err)
		}
		for i := range list.Items {
			if err := makeAvailable(ctx, c, &list.Items[i]); err != nil {
				return ignoreDone(ctx, err)
			}
		}
		changes, err := c.Watch(ctx, &appsv1.DeploymentList{}, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
		if err != nil {
			return ignoreDone(ctx, err)
		}
		for change := range changes.ResultChan() {
			d, ok := change.Object.(*appsv1.Deployment)
			if !ok {
				break // the version is too old
			}
			if err := makeAvailable(ctx, c, d); err != nil {
				changes.Stop()
				return ignoreDone(ctx, err)
			}
		}
		changes.Stop()
	}
	return nil
}

func ignoreDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("playing Deployments: %w", err)
}

// makeAvailable writes the status of a Deployment that is outdated.
func makeAvailable(ctx context.Context, c client.Client, d *appsv1.Deployment) error {
	if d.Status.ObservedGeneration == d.Generation || d.DeletionTimestamp != nil {
		return nil
	}
	n := *d.Spec.Replicas
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
	if err := c.Status().Update(ctx, d); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing the status of Deployment %s: %w", d.Name, err)
	}
	return nil
}
