// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/test/programs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench-service: %v\n", err)
		os.Exit(1)
	}
}

// run runs the benchmark, or the bare handler in the process that it starts for it.
func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == bareCommand {
		return serveBare(ctx, args[1])
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	return bench(ctx, o)
}

// options are the command-line options.
type options struct {
	// program is the flag-service executable.
	program string
	// rounds is how often each case is measured, window how long each time.
	rounds int
	window time.Duration
	// connections is the number of connections of the load generator.
	connections int
	// output is the page to write the report to, "" for none.
	output string
}

func parseOptions(args []string) (options, error) {
	var o options
	root, err := programs.Root()
	if err != nil {
		return o, err
	}
	o.program = os.Getenv("FLAG_SERVICE")
	if o.program == "" {
		o.program = filepath.Join(root, "bin", "flag-service")
	}
	fs := flag.NewFlagSet("bench-service", flag.ExitOnError)
	fs.IntVar(&o.rounds, "rounds", 3, "How often to measure each case.")
	fs.DurationVar(&o.window, "window", 2*time.Second, "How long to measure a case each time.")
	fs.IntVar(&o.connections, "connections", 50, "Number of connections of the load generator.")
	fs.StringVar(&o.output, "output", filepath.Join(root, "docs", "benchmarks.md"), "Page to write the report to; if empty, it is only printed.")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.window < 100*time.Millisecond || o.connections < 1 || o.connections > 1000 {
		return o, fmt.Errorf("rounds must be at least 1, window at least 100ms, connections from 1 to 1000")
	}
	if _, err := os.Stat(o.program); err != nil {
		return o, fmt.Errorf("finding the flag service (variable FLAG_SERVICE): %w; run make build", err)
	}
	return o, nil
}
