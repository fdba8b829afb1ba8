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

// ensureRedis finds a Redis server to run: the installed redis-server, or else an
// embedded one that is built into dir under the same name.
func ensureRedis(ctx context.Context, t *printer, p *cluster.Programs, embedded bool, dir string) error {
	if p.Redis != "" && !embedded {
		return nil
	}
	t.print("redis-server is not used: an embedded server (miniredis) replaces it.")
	t.print("It is good enough to show FlagCache, but proves nothing about compatibility with Redis.")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("creating a directory for the embedded Redis: %w", err)
	}
	p.Redis = filepath.Join(dir, "redis-server")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", p.Redis, "github.com/flagcache/flagcache/hack/demo/miniredis")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the embedded Redis: %w\n%s", err, out)
	}
	return nil
}
