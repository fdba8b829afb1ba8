// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/flagcache/flagcache/test/cluster"
)

// addRedis makes sure that there is a Redis to run: the machine's redis-server,
// else an embedded one that is built into dir under the same name.
func addRedis(ctx context.Context, t *teller, p *cluster.Programs, embedded bool, dir string) error {
	if p.Redis != "" && !embedded {
		return nil
	}
	t.say("There is no redis-server to use: an embedded one (miniredis) takes its place.")
	t.say("It is not Redis: this shows FlagCache, and says nothing about working with Redis itself.")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a directory for the embedded Redis: %w", err)
	}
	p.Redis = filepath.Join(dir, "redis-server")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", p.Redis, "github.com/flagcache/flagcache/hack/demo/miniredis")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the embedded Redis: %w\n%s", err, out)
	}
	return nil
}
