// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// The sample, and what it creates.
const (
	namespace = "default"
	name      = "demo"
	sample    = "config/samples/flagcache.yaml"
	// flagFile is the ConfigMap with the sample's flags, flagKey its key.
	flagFile = "demo-flags"
	flagKey  = "flags.json"
)

// scenario is what the demo shows for a type of cache.
type scenario struct {
	// manifests are the arguments of kubectl apply.
	manifests []string
	// cloud is set if the cache is created in the simulated AWS.
	cloud bool
	steps []func(*demo, context.Context) error
}

// scenarios are keyed by the value of --cache.
var scenarios = map[string]scenario{
	"incluster": {
		manifests: []string{"-f", sample},
		steps: []func(*demo, context.Context) error{
			(*demo).deploy,
			(*demo).apply,
			(*demo).evaluate,
			(*demo).killRedis,
			(*demo).startRedis,
			(*demo).changeFlag,
			(*demo).rollOut,
			(*demo).delete,
		},
	},
	"elasticache": {
		manifests: []string{"-k", "hack/demo/elasticache"},
		cloud:     true,
		steps: []func(*demo, context.Context) error{
			(*demo).deploy,
			(*demo).installACK,
			(*demo).apply,
			(*demo).showGroup,
			(*demo).evaluate,
			(*demo).failOver,
			(*demo).changeFlag,
			(*demo).rotateAndReplace,
			(*demo).delete,
		},
	},
}

// scenarioFor returns the scenario for a type of cache.
func scenarioFor(cache string) (scenario, error) {
	s, ok := scenarios[cache]
	if !ok {
		return s, fmt.Errorf("unknown cache %q, must be one of %s", cache, strings.Join(slices.Sorted(maps.Keys(scenarios)), ", "))
	}
	return s, nil
}

// demo is a running scenario.
type demo struct {
	*printer
	scenario scenario
	cluster  *cluster.Cluster
	// initial is the inventory of the namespace without the FlagCache.
	initial  cluster.Inventory
	endpoint cluster.Endpoint
	// traffic runs from the first evaluation to the deletion.
	traffic *cluster.Traffic
}

// run runs a scenario on a cluster that it starts and stops.
func run(ctx context.Context, t *printer, s scenario, embedded bool) (err error) {
	began := time.Now()
	options, clean, err := options(ctx, t, s, embedded)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	c, err := start(ctx, t, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	ctx, cancel := withClusterEnd(ctx, c)
	defer cancel(nil)
	d := &demo{printer: t, scenario: s, cluster: c}
	if err := d.runSteps(ctx); err != nil {
		return err
	}
	t.section("Stopping the cluster")
	if err := c.Stop(); err != nil {
		return err
	}
	t.success("all steps succeeded, in %s", round(time.Since(began)))
	return nil
}

// runSteps runs the steps of the scenario.
func (d *demo) runSteps(ctx context.Context) error {
	defer func() {
		if d.traffic != nil {
			d.traffic.Stop()
		}
	}()
	for _, step := range d.scenario.steps {
		if err := step(d, ctx); err != nil {
			return err
		}
	}
	return nil
}

// options returns the options for the cluster; clean removes temporary files.
func options(ctx context.Context, t *printer, s scenario, embedded bool) (o cluster.Options, clean func() error, err error) {
	programs, err := cluster.FindPrograms()
	if err != nil {
		return o, nil, err
	}
	if s.cloud {
		if err := checkSimulation(programs, embedded); err != nil {
			return o, nil, err
		}
	}
	dir, err := os.MkdirTemp("", "flagcache-demo-")
	if err != nil {
		return o, nil, fmt.Errorf("creating a directory for the demo: %w", err)
	}
	clean = func() error { return os.RemoveAll(dir) }
	if err := ensureRedis(ctx, t, &programs, embedded, dir); err != nil {
		return o, nil, errors.Join(err, clean())
	}
	return cluster.Options{Kube: programs.Kube, Images: programs.Images()}, clean, nil
}

// start starts the cluster.
func start(ctx context.Context, t *printer, o cluster.Options) (*cluster.Cluster, error) {
	t.section("Starting Kubernetes on this machine")
	t.print("It has a real control plane and a real kubelet; pods are processes in Linux namespaces.")
	o.Progress = func(line string) { t.detail("%s", line) }
	began := time.Now()
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	t.success("the cluster is ready, after %s", round(time.Since(began)))
	return c, nil
}

// withClusterEnd returns a context that is cancelled when the cluster ends, with the
// reason as its cause.
func withClusterEnd(ctx context.Context, c *cluster.Cluster) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.Ended():
			cancel(c.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// deploy installs the operator.
func (d *demo) deploy(ctx context.Context) error {
	d.section("Installing the CRD and the operator")
	d.command("kubectl apply --server-side -k config/default")
	began := time.Now()
	if err := d.cluster.Deploy(ctx); err != nil {
		return err
	}
	d.success("the operator is available, after %s", round(time.Since(began)))
	return nil
}

// apply applies the FlagCache and waits until it is Ready.
func (d *demo) apply(ctx context.Context) error {
	d.section("Applying a FlagCache and its flags")
	var err error
	if d.initial, err = d.cluster.Inventory(ctx, namespace); err != nil {
		return err
	}
	if err := d.kubectl(ctx, append([]string{"apply"}, d.scenario.manifests...)...); err != nil {
		return err
	}
	// The flags are the user's and stay.
	d.initial["ConfigMap/"+flagFile] = ""
	took, err := d.awaitCondition(ctx, v1alpha1.ConditionReady, "True", 90*time.Second)
	if err != nil {
		return err
	}
	d.success("Ready %s after kubectl apply", round(took))
	return d.kubectl(ctx, "get", "flagcaches")
}

// delete deletes the FlagCache and waits until all its objects are deleted.
func (d *demo) delete(ctx context.Context) error {
	d.section("Deleting the FlagCache")
	tally := d.traffic.Stop()
	d.print("The background traffic ends here: %s.", tally)
	if tally.Failed > 0 {
		return fmt.Errorf("evaluations failed during the demo: %s", tally)
	}
	if err := d.kubectl(ctx, "delete", "flagcache", name, "--wait=false"); err != nil {
		return err
	}
	took, err := d.await(ctx, "all objects of the FlagCache are deleted", time.Minute, d.observeRemaining)
	if err != nil {
		return err
	}
	where := "in the Kubernetes API"
	if d.scenario.cloud {
		where += " or in AWS"
	}
	d.success("nothing is left %s, %s after the deletion", where, round(took))
	return nil
}

// kubectl runs kubectl in the repository's directory and shows the command and its
// output.
func (d *demo) kubectl(ctx context.Context, args ...string) error {
	d.command("kubectl %s", strings.Join(args, " "))
	output, err := d.cluster.Kubectl(ctx, args...)
	for line := range strings.Lines(output) {
		d.print("%s", strings.TrimRight(line, "\n"))
	}
	return err
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
