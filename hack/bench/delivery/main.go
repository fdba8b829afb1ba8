// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
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
		fmt.Fprintf(os.Stderr, "bench-delivery: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	ctrl.SetLogger(logr.Discard())
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	return bench(ctx, o)
}

// options are the command-line options.
type options struct {
	// pods are the numbers of pods to measure, in order.
	pods []int
	// changes, mountChanges and kills are the numbers of changes with everything
	// available, while Redis is away, and with the operator killed.
	changes, mountChanges, kills int
	// pause is the time between a change and the next.
	pause time.Duration
	// output is the page to write the report to, "" for none.
	output   string
	programs cluster.Programs
}

func parseOptions(args []string) (options, error) {
	var o options
	root, err := programs.Root()
	if err != nil {
		return o, err
	}
	fs := flag.NewFlagSet("bench-delivery", flag.ExitOnError)
	pods := fs.String("pods", "3,30", "Numbers of pods, separated by commas.")
	fs.IntVar(&o.changes, "changes", 100, "Number of changes with everything available.")
	fs.IntVar(&o.mountChanges, "mount-changes", 3, "Number of changes while Redis is away, each of which takes more than a minute.")
	fs.IntVar(&o.kills, "kills", 3, "Number of changes with the operator killed.")
	fs.DurationVar(&o.pause, "pause", 200*time.Millisecond, "Time between a change and the next.")
	fs.StringVar(&o.output, "output", filepath.Join(root, "docs", "benchmarks.md"), "Page to write the report to; if empty, it is only printed.")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	for text := range strings.SplitSeq(*pods, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return o, fmt.Errorf("the number of pods %q is not from 1 to 100", text)
		}
		o.pods = append(o.pods, n)
	}
	if o.changes < 1 || o.mountChanges < 0 || o.kills < 0 {
		return o, errors.New("there must be at least one change")
	}
	o.programs, err = cluster.FindPrograms()
	if err == nil && o.programs.Redis == "" {
		err = errors.New("redis-server is not installed: run hack/setup/redis.sh")
	}
	return o, err
}
