// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/test/child"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/machine"
	"github.com/flagcache/flagcache/test/programs"
)

// operator is the operator as a local process.
type operator struct {
	*process
	metrics string
}

// loopbackPolicy lets the operator probe addresses of this machine.
const loopbackPolicy = `apiVersion: policy.flagcache.dev/v1alpha1
kind: Policy
addresses:
  allow: [127.0.0.0/8]
`

// startOperator starts the operator and waits until it serves metrics.
func (ps *processes) startOperator(ctx context.Context, program, kubeconfig string) (*operator, error) {
	address, err := child.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	// The benchmark's Redis is on this machine.
	policy := filepath.Join(ps.dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(loopbackPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("writing the operator's policy: %w", err)
	}
	cmd := exec.Command(program, "--leader-elect=false", "--policy="+policy, "--health-probe-bind-address=0",
		"--metrics-bind-address="+address.String(), "--metrics-secure=false")
	if cmd.Env, err = deployedEnv(); err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "KUBECONFIG="+kubeconfig, "HOME="+ps.dir, "POD_NAMESPACE="+cluster.OperatorNamespace)
	p, err := ps.start("operator", cmd)
	if err != nil {
		return nil, err
	}
	o := &operator{process: p, metrics: "http://" + address.String() + "/metrics"}
	err = poll(ctx, func(ctx context.Context) (bool, error) {
		_, err := scrape(ctx, o.metrics)
		return err == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for the operator to start: %w", err)
	}
	return o, nil
}

// deployedEnv returns the environment of the operator in its manifest.
func deployedEnv() ([]string, error) {
	root, err := programs.Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "config", "manager", "manager.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the operator's manifest: %w", err)
	}
	deployment := &appsv1.Deployment{}
	if err := yaml.Unmarshal(text, deployment); err != nil {
		return nil, fmt.Errorf("reading the operator's manifest: %w", err)
	}
	var env []string
	for _, container := range deployment.Spec.Template.Spec.Containers {
		for _, variable := range container.Env {
			if variable.ValueFrom == nil {
				env = append(env, variable.Name+"="+variable.Value)
			}
		}
	}
	return env, nil
}

// cost is the resource usage of an operator in a window of time.
type cost struct {
	// CPU is the fraction of one core.
	CPU float64
	// RSS is the peak resident memory, Heap the live heap after the last garbage
	// collection, in bytes.
	RSS  uint64
	Heap float64
	// Counts during the window.
	Probes, FailedProbes, Reconciles, Reads float64
}

// watch measures the operator during a window.
func (o *operator) watch(ctx context.Context, window time.Duration) (cost, error) {
	before, err := scrape(ctx, o.metrics)
	if err != nil {
		return cost{}, err
	}
	start := time.Now()
	first, err := machine.UsageOf(o.Cmd.Process.Pid)
	if err != nil {
		return cost{}, err
	}
	peak, last := first.RSS, first
	for time.Since(start) < window {
		if err := sleep(ctx, min(time.Second, window)); err != nil {
			return cost{}, err
		}
		if last, err = machine.UsageOf(o.Cmd.Process.Pid); err != nil {
			return cost{}, err
		}
		peak = max(peak, last.RSS)
	}
	elapsed := time.Since(start)
	after, err := scrape(ctx, o.metrics)
	if err != nil {
		return cost{}, err
	}
	return cost{
		CPU: float64(last.CPU-first.CPU) / float64(elapsed),
		RSS: peak, Heap: after.Heap,
		Probes: after.Probes - before.Probes, FailedProbes: after.FailedProbes - before.FailedProbes,
		Reconciles: after.Reconciles - before.Reconciles, Reads: after.Reads - before.Reads,
	}, nil
}

// awaitProbes waits until the operator has completed n probes.
func (o *operator) awaitProbes(ctx context.Context, n int) error {
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		now, err := scrape(ctx, o.metrics)
		return now.Probes >= float64(n), err
	})
	if err != nil {
		return fmt.Errorf("waiting for %d probes: %w", n, err)
	}
	return nil
}
