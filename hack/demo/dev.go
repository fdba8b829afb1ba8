// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/flagcache/flagcache/test/cluster"
)

// dev starts the cluster of the demo and leaves it running.
func dev(ctx context.Context, t *teller, embedded bool) error {
	programs, err := cluster.FindPrograms()
	if err != nil {
		return err
	}
	dir, err := devDir()
	if err != nil {
		return err
	}
	if err := addRedis(ctx, t, &programs, embedded, filepath.Join(dir, "programs")); err != nil {
		return err
	}
	t.chapter("Starting a Kubernetes on this machine")
	c, err := cluster.Detach(ctx, cluster.Options{Kube: programs.Kube, Dir: dir, Images: programs.Images()})
	if err != nil {
		return err
	}
	d := &demo{teller: t, cluster: c}
	if err := d.deploy(ctx); err != nil {
		return fmt.Errorf("%w\n\nThe cluster is left running for you to look at; make dev-down ends it", err)
	}
	t.chapter("The cluster is yours until make dev-down")
	t.introduce(c, programs)
	return nil
}

// introduce says what to try on a cluster that is left running.
func (t *teller) introduce(c *cluster.Cluster, p cluster.Programs) {
	for _, line := range []string{
		"export KUBECONFIG=" + c.Kubeconfig(),
		"alias kubectl='" + p.Kube + " kubectl'   # where there is none",
		"",
		"kubectl apply -f " + sample,
		"kubectl get flagcaches --watch",
		"kubectl port-forward service/demo 8080:80 &",
		"curl http://localhost:8080/ofrep/v1/evaluate/flags/welcome-message -d '{\"context\": {\"locale\": \"de\"}}'",
	} {
		fmt.Fprintln(t.out, line)
	}
}

// down ends the cluster that dev started.
func down(t *teller) error {
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
	t.came("the cluster is gone")
	return nil
}

// devDir is where the cluster of dev lives.
func devDir() (string, error) {
	root, err := cluster.Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "bin", "dev"), nil
}
