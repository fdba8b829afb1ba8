// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: demo [--cache=incluster|elasticache] [--embedded-redis] [run|dev|down]

  run   show FlagCache from apply to delete (the default)
  dev   start a cluster with the operator and leave it running
  down  stop the cluster that dev started

`

func main() {
	flags := flag.NewFlagSet("demo", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flags.PrintDefaults()
	}
	cache := flags.String("cache", "incluster", "type of the cache that run shows: incluster, or elasticache with a simulated AWS")
	embedded := flags.Bool("embedded-redis", false, "use the embedded Redis server even if redis-server is installed")
	_ = flags.Parse(os.Args[1:]) // exits on error

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, flags.Args(), *cache, *embedded); err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, cache string, embedded bool) error {
	t := newPrinter(os.Stdout)
	s, err := scenarioFor(cache)
	if err != nil {
		return err
	}
	switch {
	case len(args) == 0, len(args) == 1 && args[0] == "run":
		return run(ctx, t, s, embedded)
	case len(args) == 1 && args[0] == "dev":
		return dev(ctx, t, embedded)
	case len(args) == 1 && args[0] == "down":
		return down(t)
	default:
		return fmt.Errorf("unknown arguments %q\n%s", args, usage)
	}
}
