// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/programs"
)

// dev starts a cluster with the operator and leaves it running.
func dev(ctx context.Context, t *printer, embedded bool) error {
	programs, err := cluster.FindPrograms()
	if err != nil {
		return err
	}
	dir, err := devDir()
	if err != nil {
		return err
	}
	if err := ensureRedis(ctx, t, &programs, embedded, filepath.Join(dir, "programs")); err != nil {
		return err
	}
	t.section("Starting Kubernetes on this machine")
	c, err := cluster.Detach(ctx, cluster.Options{Kube: programs.Kube, Dir: dir, Images: programs.Images()})
	if err != nil {
		return err
	}
	d := &demo{printer: t, cluster: c}
	if err := d.deploy(ctx); err != nil {
		return fmt.Errorf("%w\n\nThe cluster is left running for inspection; make dev-down stops it", err)
	}
	t.section("The cluster runs until make dev-down")
	t.printInstructions(c, programs)
	return nil
}

// printInstructions prints what to try on the running cluster.
func (p *printer) printInstructions(c *cluster.Cluster, programs cluster.Programs) {
	for _, line := range []string{
		"export KUBECONFIG=" + c.Kubeconfig(),
		"alias kubectl='" + programs.Kube + " kubectl'   # if kubectl is not installed",
		"",
		"kubectl apply -f " + sample,
		"kubectl get flagcaches --watch",
		"kubectl port-forward service/demo 8080:80 &",
		"curl http://localhost:8080/ofrep/v1/evaluate/flags/welcome-message -d '{\"context\": {\"locale\": \"de\"}}'",
	} {
		fmt.Fprintln(p.out, line)
	}
}

// down stops the cluster that dev started.
func down(t *printer) error {
	dir, err := devDir()
	if err != nil {
		return err
	}
	programs, err := cluster.FindPrograms()
	if err != nil {
		return err
	}
	if err := cluster.End(programs.Kube, dir); err != nil {
		return err
	}
	t.success("the cluster is stopped")
	return nil
}

// devDir is the directory of the cluster that dev starts.
func devDir() (string, error) {
	root, err := programs.Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "bin", "dev"), nil
}
