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

// simulatedNodes is how many nodes kwok plays, each in a zone of its own.
const simulatedNodes = 3

// startRedis runs a redis-server that keeps nothing on disk.
func (ps *processes) startRedis(program string) (redis, error) {
	address, err := child.FreeAddress("127.0.0.1")
	if err != nil {
		return redis{}, err
	}
	server := redis{address: address.String(), password: rand.Text()}
	cmd := exec.Command(program, "-") // settings on standard input, so that no password is on the command line
	cmd.Stdin = strings.NewReader(fmt.Sprintf("bind %s\nport %d\nrequirepass %s\nsave \"\"\nappendonly no\n", address.IP, address.Port, server.password))
	cmd.Dir = ps.dir
	_, err = ps.start("redis-server", cmd)
	return server, err
}

// startKwok has kwok play nodes, and every pod on them.
func (ps *processes) startKwok(ctx context.Context, o options, c *cluster.Cluster) error {
	// Nodes that renew no lease are soon found dead, and their pods with them.
	args := []string{"--kubeconfig", c.Kubeconfig(), "--manage-all-nodes", "--node-lease-duration-seconds", "20", "--node-port", "0"}
	for _, stages := range []string{"node/fast", "node/heartbeat-with-lease", "pod/fast"} {
		files, err := filepath.Glob(filepath.Join(o.stages, stages, "*-*.yaml"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("looking for kwok's stages: there are none in %s", filepath.Join(o.stages, stages))
		}
		for _, file := range files {
			args = append(args, "--config", file)
		}
	}
	cmd := exec.Command(o.kwok, args...)
	cmd.Env = append(os.Environ(), "HOME="+ps.dir) // the user's own settings of kwok stay out of it
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

// createNode makes a node and returns when kwok plays it.
func createNode(ctx context.Context, c client.Client, i int) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("played-%d", i),
		Labels: map[string]string{
			corev1.LabelHostname:     fmt.Sprintf("played-%d", i),
			corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i),
		},
	}}
	if err := c.Create(ctx, node); err != nil {
		return fmt.Errorf("making a node: %w", err)
	}
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(node), node)
		return node.Status.Phase == corev1.NodeRunning, err
	})
	if err != nil {
		return fmt.Errorf("waiting for kwok to play node %s: %w", node.Name, err)
	}
	return nil
}

// startCounter serves a counter in front of the cluster's API server until ctx
// ends, and returns the path of the kubeconfig that leads to it. Its end is told
// to done.
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
