// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/flagcache/flagcache/test/programs"
)

// Kubectl runs kubectl as the cluster's administrator in the repository's root and
// returns its standard output. The error contains its standard error.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	root, err := programs.Root()
	if err != nil {
		return "", err
	}
	own := []string{"kubectl", "--kubeconfig", c.Kubeconfig(), "--cache-dir", filepath.Join(c.Dir, "kubectl")}
	cmd := exec.CommandContext(ctx, c.kube, append(own, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "KUBERC=off") // ignore the user's preferences
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
