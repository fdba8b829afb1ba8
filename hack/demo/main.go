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

  run   show FlagCache at work, from apply to delete (the default)
  dev   start a cluster with the operator and leave it running
  down  end the cluster that dev started

`

func main() {
	flags := flag.NewFlagSet("demo", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flags.PrintDefaults()
	}
	cache := flags.String("cache", "incluster", "what run is about: incluster, or elasticache with AWS played")
	embedded := flags.Bool("embedded-redis", false, "use the embedded server even where there is a redis-server")
	_ = flags.Parse(os.Args[1:]) // it exits on an error

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, flags.Args(), *cache, *embedded); err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, cache string, embedded bool) error {
	t := newTeller(os.Stdout)
	s, err := storyAbout(cache)
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
		return fmt.Errorf("%q is not understood\n%s", args, usage)
	}
}
