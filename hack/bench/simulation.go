// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/test/child"
	"github.com/flagcache/flagcache/test/cluster"
)

// simulatedNodes is the number of nodes that kwok simulates, each in a separate zone.
const simulatedNodes = 3

// startRedis starts a redis-server without persistence.
func (ps *processes) startRedis(program string) (redis, error) {
	address, err := child.FreeAddress("127.0.0.1")
	if err != nil {
		return redis{}, err
	}
	server := redis{address: address.String(), password: rand.Text()}
	cmd := exec.Command(program, "-") // reads its configuration from standard input, which hides the password
	cmd.Stdin = strings.NewReader(fmt.Sprintf("bind %s\nport %d\nrequirepass %s\nsave \"\"\nappendonly no\n", address.IP, address.Port, server.password))
	cmd.Dir = ps.dir
	_, err = ps.start("redis-server", cmd)
	return server, err
}

// startKwok starts kwok, which simulates nodes and their pods.
func (ps *processes) startKwok(ctx context.Context, o options, c *cluster.Cluster) error {
	// Without leases, the nodes would soon be considered dead and their pods deleted.
	args := []string{"--kubeconfig", c.Kubeconfig(), "--manage-all-nodes", "--node-lease-duration-seconds", "20", "--node-port", "0"}
	for _, stages := range []string{"node/fast", "node/heartbeat-with-lease", "pod/fast"} {
		files, err := filepath.Glob(filepath.Join(o.stages, stages, "*-*.yaml"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("finding kwok's stages: none in %s", filepath.Join(o.stages, stages))
		}
		for _, file := range files {
			args = append(args, "--config", file)
		}
	}
	cmd := exec.Command(o.kwok, args...)
	cmd.Env = append(os.Environ(), "HOME="+ps.dir) // ignore the user's configuration of kwok
	if _, err := ps.start("kwok", cmd); err != nil {
		return err
	}
	for i := range simulatedNodes {
		if err := createNode(ctx, c.Client, i); err != nil {
			return err
		}
	}
	return nil
}

// createNode creates a node and waits until kwok manages it.
func createNode(ctx context.Context, c client.Client, i int) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("simulated-%d", i),
		Labels: map[string]string{
			corev1.LabelHostname:     fmt.Sprintf("simulated-%d", i),
			corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i),
		},
	}}
	if err := c.Create(ctx, node); err != nil {
		return fmt.Errorf("creating a node: %w", err)
	}
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(node), node)
		return node.Status.Phase == corev1.NodeRunning, err
	})
	if err != nil {
		return fmt.Errorf("waiting for kwok to manage node %s: %w", node.Name, err)
	}
	return nil
}

// startCounter serves a counter in front of the cluster's API server until ctx ends, and
// returns it with the path of a kubeconfig for it. done receives its result.
func startCounter(ctx context.Context, c *cluster.Cluster, ps *processes, done chan<- error) (*counter.Counter, string, error) {
	writes, err := counter.New(c.Config)
	if err != nil {
		return nil, "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("listening for the operator: %w", err)
	}
	access, err := counter.NewAccess(listener.Addr().String())
	if err != nil {
		return nil, "", err
	}
	pair, err := access.KeyPair()
	if err != nil {
		return nil, "", err
	}
	kubeconfig := filepath.Join(ps.dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, access.Kubeconfig, 0o600); err != nil {
		return nil, "", fmt.Errorf("writing the operator's kubeconfig: %w", err)
	}
	go func() { done <- counter.Serve(ctx, listener, writes, pair) }()
	return writes, kubeconfig, nil
}
