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

	"github.com/flagcache/flagcache/hack/bench/counter"
	"github.com/flagcache/flagcache/test/child"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/kwok"
)

// simulatedNodes is the number of nodes that kwok simulates, each in a separate zone.
const simulatedNodes = 3

// redisHost differs from the host of the API server's proxy, which the operator never probes.
const redisHost = "127.0.0.2"

// startRedis starts a redis-server without persistence.
func (ps *processes) startRedis(program string) (redis, error) {
	address, err := child.FreeAddress(redisHost)
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
func (ps *processes) startKwok(ctx context.Context, c *cluster.Cluster) error {
	simulator, err := kwok.Find(ctx)
	if err != nil {
		return err
	}
	if _, err := ps.start("kwok", simulator.Command(c.Kubeconfig(), ps.dir)); err != nil {
		return err
	}
	return kwok.CreateNodes(ctx, c.Client, simulatedNodes)
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
