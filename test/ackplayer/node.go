// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// nodeLimit is how long a server may take to answer, or to copy another.
	nodeLimit = 30 * time.Second
	// keeper is the user by which the player and the replicas log in.
	keeper = "ackplayer"
)

// node is one redis-server.
type node struct {
	id     string
	host   string
	port   int
	dir    string
	client *redis.Client
	cmd    *exec.Cmd
	output bytes.Buffer
	// started gets the outcome of starting, ended is closed when the server has.
	started chan error
	ended   chan struct{}
}

// address is host:port.
func (n *node) address() string { return net.JoinHostPort(n.host, fmt.Sprint(n.port)) }

// startNode starts a server that only the keeper can log in to, a replica of
// primary unless that is nil.
func (f *fleet) startNode(ctx context.Context, id string, primary *node) (*node, error) {
	// Between choosing a port and listening on it somebody else may take it.
	var err error
	for range 5 {
		n := &node{id: id, host: f.host, started: make(chan error, 1), ended: make(chan struct{})}
		if err = n.launch(ctx, f, primary); err == nil {
			return n, nil
		}
		n.stop()
	}
	return nil, fmt.Errorf("starting redis-server for %s: %w", id, err)
}

func (n *node) launch(ctx context.Context, f *fleet, primary *node) error {
	var err error
	if n.port, err = freePort(n.host); err != nil {
		return err
	}
	if n.dir, err = os.MkdirTemp(f.dir, n.id+"-"); err != nil {
		return fmt.Errorf("making its directory: %w", err)
	}
	config := filepath.Join(n.dir, "redis.conf")
	if err := os.WriteFile(config, []byte(f.config(n, primary)), 0o600); err != nil {
		return fmt.Errorf("writing its configuration: %w", err)
	}
	n.cmd = exec.Command(f.redisServer, config)
	n.cmd.Stdout, n.cmd.Stderr = &n.output, &n.output
	n.cmd.SysProcAttr = endWithParent()
	go n.run()
	if err := <-n.started; err != nil {
		return err
	}
	n.client = redis.NewClient(f.keeperOptions(n))
	return n.await(ctx, primary != nil)
}

// run owns the process from its start to its end. It keeps its thread, because
// the kernel ends the process with the thread that started it.
func (n *node) run() {
	runtime.LockOSThread()
	defer close(n.ended)
	err := n.cmd.Start()
	n.started <- err
	if err == nil {
		_ = n.cmd.Wait() // it is killed
	}
}

// await returns when the server answers and, as a replica, has its copy.
func (n *node) await(ctx context.Context, replica bool) error {
	deadline := time.After(nodeLimit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := n.client.Info(ctx, "replication").Result()
		if err == nil && (!replica || strings.Contains(info, "master_link_status:up")) {
			return nil
		}
		select {
		case <-n.ended:
			return fmt.Errorf("it ended: %s", bytes.TrimSpace(n.output.Bytes()))
		case <-deadline:
			return fmt.Errorf("it is not ready after %s: %w", nodeLimit, errors.Join(err, errors.New(info)))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// stop kills the server, and returns when nothing of it is left.
func (n *node) stop() {
	if n.client != nil {
		_ = n.client.Close()
	}
	if n.cmd != nil && n.cmd.Process != nil {
		_ = n.cmd.Process.Kill() // it may have ended by itself
		<-n.ended
	}
	if n.dir != "" {
		_ = os.RemoveAll(n.dir) // the directory above it goes as well, at the end
	}
}

func freePort(host string) (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
