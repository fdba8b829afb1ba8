// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/programs"
)

// The namespace and the Deployment of ACK in its manifests.
const (
	ACKNamespace  = ackcontroller.Namespace
	ACKDeployment = "ack-elasticache-controller"
)

// DeployACK deploys ACK's elasticache-controller, which must be one of the cluster's
// images, with the manifests of its module, and waits until its CRDs are established.
// AWS must be deployed.
func (c *Cluster) DeployACK(ctx context.Context) error {
	manifests, err := c.ackManifests(ctx)
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "-k", manifests); err != nil {
		return fmt.Errorf("deploying ACK: %w", err)
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout", deployLimit.String(),
		"crd/replicationgroups.elasticache.services.k8s.aws", "crd/usergroups.elasticache.services.k8s.aws"); err != nil {
		return fmt.Errorf("waiting for the CRDs of ACK: %w", err)
	}
	return nil
}

// ACKLog returns the end of ACK's log, or the error that prevents it.
func (c *Cluster) ACKLog(ctx context.Context) string {
	return c.kubectlOutput(ctx, "logs", "--namespace", ACKNamespace, "deployment/"+ACKDeployment, "--tail", "60")
}

// ackManifests writes a kustomization of ACK's own manifests with the component in
// test/cluster/ack, and returns its directory.
func (c *Cluster) ackManifests(ctx context.Context) (string, error) {
	module, err := ackcontroller.Dir(ctx)
	if err != nil {
		return "", err
	}
	root, err := programs.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(c.Dir, "ack")
	err = writeKustomization(dir, filepath.Join(module, "config", "default"), filepath.Join(root, "test", "cluster", "ack"))
	if err != nil {
		return "", fmt.Errorf("writing the manifests of ACK: %w", err)
	}
	return dir, nil
}

// writeKustomization writes a kustomization of a resource and a component, which are
// directories, to dir. Kustomize accepts relative paths only, and resolves links in dir.
func writeKustomization(dir, resource, component string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	from, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	content := map[string][]string{}
	for key, path := range map[string]string{"resources": resource, "components": component} {
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		content[key] = []string{relative}
	}
	text, err := yaml.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text, 0o600)
}
