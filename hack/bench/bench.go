// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/flagcache/flagcache/hack/bench/page"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/machine"
)

// waitLimit bounds every single wait: a restarted operator reads 10,000 FlagCaches in minutes.
const waitLimit = 10 * time.Minute

// bench measures and writes the report. A missed target is reported, not an error.
func bench(ctx context.Context, o options) error {
	out := newProgress(os.Stdout)
	r := report{Window: o.window, Started: time.Now()}
	var err error
	if r.Machine, err = machine.This(); err != nil {
		return err
	}
	if o.runs > 0 {
		if err := benchPods(ctx, o, out, &r); err != nil {
			return err
		}
	}
	if len(o.sizes) > 0 {
		if err := benchFleets(ctx, o, out, &r); err != nil {
			return err
		}
	}
	text, err := r.render()
	if err != nil {
		return err
	}
	fmt.Print("\n", text, "\n")
	if err := page.Write(o.output, text); err != nil {
		return err
	}
	out.log("written to %s", o.output)
	return nil
}

// withCluster runs a part of the benchmark on a new cluster, with a temporary directory
// for the processes it starts beside it. The context of the part ends with the cluster.
func withCluster(ctx context.Context, o cluster.Options, part func(ctx context.Context, c *cluster.Cluster, started *processes) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	go func() {
		<-c.Ended()
		cancel(c.Err())
	}()
	return withProcesses(ctx, cancel, c, part)
}

// withProcesses runs a part of the benchmark and ends the processes that it started. One that ends
// before cancels the part, and is then the cause of its error.
func withProcesses(ctx context.Context, cancel context.CancelCauseFunc, c *cluster.Cluster, part func(ctx context.Context, c *cluster.Cluster, started *processes) error) (err error) {
	dir, err := os.MkdirTemp("", "flagcache-bench-")
	if err != nil {
		return fmt.Errorf("creating a directory for logs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	started := &processes{dir: dir, failed: cancel}
	defer func() { err = errors.Join(err, started.stop()) }()
	if err := part(ctx, c, started); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}
