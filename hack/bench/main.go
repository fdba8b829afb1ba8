// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/programs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// run runs a benchmark, or the counter in the operator's pod.
func run(ctx context.Context, args []string) error {
	ctrl.SetLogger(logr.Discard())
	if len(args) > 0 && args[0] == counterCommand {
		return runCounter(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == scaleCommand {
		return runScale(ctx, args[1:])
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	return bench(ctx, o)
}

// options are the command-line options.
type options struct {
	// runs is how often the time from apply to Ready is measured.
	runs int
	// window is how long the steady state is measured.
	window time.Duration
	// sizes are the fleet sizes to measure, in order.
	sizes []int
	// output is the file to write the report to.
	output   string
	programs cluster.Programs
}

// windowFor returns the window for a fleet of n; there are no targets for small fleets.
func (o options) windowFor(n int) time.Duration {
	if n < targetSize {
		return o.window / 2
	}
	return o.window
}

func parseOptions(args []string) (options, error) {
	var o options
	root, err := programs.Root()
	if err != nil {
		return o, err
	}
	o.sizes = []int{0, 1, 100, 1000}
	fs := flag.NewFlagSet("bench", flag.ExitOnError)
	fs.IntVar(&o.runs, "runs", 3, "How often to measure the time from apply to Ready for each type of cache; 0 skips it.")
	fs.DurationVar(&o.window, "window", time.Minute, "How long to measure the steady state; half as long with fewer than 1,000 FlagCaches.")
	fs.StringVar(&o.output, "output", filepath.Join(root, "docs", "benchmarks.md"), "File to write the report to.")
	fs.Func("sizes", "Comma-separated numbers of FlagCaches to measure (default 0,1,100,1000); empty skips them.", o.setSizes)
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	return o, o.findPrograms()
}

func (o *options) setSizes(list string) error {
	o.sizes = nil
	if list == "" {
		return nil
	}
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not a number of FlagCaches", text)
		}
		o.sizes = append(o.sizes, n)
	}
	return nil
}

// findPrograms finds the programs that the benchmark starts.
func (o *options) findPrograms() error {
	var err error
	if o.programs, err = cluster.FindPrograms(); err != nil {
		return err
	}
	if o.programs.Redis == "" {
		return fmt.Errorf("redis-server is not in PATH: run make redis")
	}
	return nil
}
