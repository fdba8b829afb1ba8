// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// setupTimeout limits the time until servers have found each other.
const setupTimeout = 30 * time.Second

// StartReplica starts a replica of a server and waits until it is in sync.
func StartReplica(t testing.TB, of *Server, args ...string) *Server {
	t.Helper()
	replica := Start(t, append([]string{"--replicaof", "127.0.0.1 " + of.Port(), "--repl-diskless-sync-delay", "0"}, args...)...)
	client := replica.Client()
	Eventually(t, setupTimeout, "the replica did not sync with its primary", func() bool {
		return strings.Contains(client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	return replica
}

// StartCluster starts a cluster of one server.
func StartCluster(t testing.TB, args ...string) *Server {
	t.Helper()
	server := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-config-file", filepath.Join(t.TempDir(), "nodes.conf")}, args...)...)
	client := server.Client()
	if err := client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatalf("assigning the cluster's slots: %v", err)
	}
	Eventually(t, setupTimeout, "the cluster did not become ready", func() bool {
		return strings.Contains(client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	return server
}

// SentinelName is the name of the primary that a sentinel watches.
const SentinelName = "flags"

// StartSentinel starts a sentinel that watches a primary and waits until it has
// discovered the replicas.
func StartSentinel(t testing.TB, primary *Server, replicas int) *Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	lines := []string{
		"sentinel monitor " + SentinelName + " 127.0.0.1 " + primary.Port() + " 1",
		"sentinel down-after-milliseconds " + SentinelName + " 500",
		"sentinel failover-timeout " + SentinelName + " 2000",
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatalf("writing the sentinel's configuration: %v", err)
	}
	sentinel := &Server{t: t, args: []string{file, "--sentinel", "--bind", "127.0.0.1"}, bare: true}
	sentinel.launch()
	client := sentinel.Client()
	Eventually(t, setupTimeout, "the sentinel did not find the replicas", func() bool {
		found := client.Do(t.Context(), "SENTINEL", "REPLICAS", SentinelName)
		list, err := found.Slice()
		return err == nil && len(list) == replicas
	})
	return sentinel
}

// Primary returns the address of a sentinel's current primary.
func (s *Server) Primary() string {
	s.t.Helper()
	client := s.Client()
	address, err := client.Do(s.t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelName).StringSlice()
	if err != nil || len(address) != 2 {
		s.t.Fatalf("querying the sentinel for the primary: %q, %v", address, err)
	}
	return net.JoinHostPort(address[0], address[1])
}

// SentinelURL returns a redis+sentinel:// URL with the sentinel's address and
// the primary's name.
func (s *Server) SentinelURL() string {
	return fmt.Sprintf("redis+sentinel://%s?master_name=%s", s.Addr, SentinelName)
}
