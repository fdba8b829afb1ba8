// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/test/child"
)

const (
	// nodeLimit bounds the time until a server responds, or a replica is in sync.
	nodeLimit = 30 * time.Second
	// adminUser is the user that the player and the replicas authenticate as.
	adminUser = "awsplayer"
)

// node is one redis-server.
type node struct {
	id     string
	host   string
	port   int
	dir    string
	client *redis.Client
	server *child.Process
	output bytes.Buffer
}

// address is host:port.
func (n *node) address() string { return net.JoinHostPort(n.host, fmt.Sprint(n.port)) }

// startNode starts a server with no user but adminUser. It is a replica of primary
// unless that is nil.
func (f *Fleet) startNode(ctx context.Context, id string, primary *node) (*node, error) {
	// Another process may take the port before the server listens on it.
	var err error
	for range 5 {
		n := &node{id: id, host: f.options.Host}
		if err = n.launch(ctx, f, primary); err == nil {
			return n, nil
		}
		n.stop()
	}
	return nil, fmt.Errorf("starting redis-server for %s: %w", id, err)
}

func (n *node) launch(ctx context.Context, f *Fleet, primary *node) error {
	address, err := child.FreeAddress(n.host)
	if err != nil {
		return err
	}
	n.port = address.Port
	if n.dir, err = os.MkdirTemp(f.options.Dir, n.id+"-"); err != nil {
		return fmt.Errorf("creating its directory: %w", err)
	}
	config := filepath.Join(n.dir, "redis.conf")
	if err := os.WriteFile(config, []byte(f.config(n, primary)), 0o600); err != nil {
		return fmt.Errorf("writing its configuration: %w", err)
	}
	cmd := exec.Command(f.options.RedisServer, config)
	cmd.Stdout, cmd.Stderr = &n.output, &n.output
	if n.server, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		return err
	}
	n.client = redis.NewClient(f.adminOptions(n))
	return n.await(ctx, primary != nil)
}

// await returns when the server responds and, if it is a replica, is in sync.
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
		case <-n.server.Ended():
			return fmt.Errorf("it exited: %s", bytes.TrimSpace(n.output.Bytes()))
		case <-deadline:
			return fmt.Errorf("it is not ready after %s: %w", nodeLimit, errors.Join(err, errors.New(info)))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// stop kills the server, waits for its end and removes its files.
func (n *node) stop() {
	if n.client != nil {
		_ = n.client.Close()
	}
	if n.server != nil {
		_ = n.server.Cmd.Process.Kill() // it may have exited already
		<-n.server.Ended()
	}
	if n.dir != "" {
		_ = os.RemoveAll(n.dir) // its parent directory is removed at the end anyway
	}
}
