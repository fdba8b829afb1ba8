// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// User is a Redis user with its ACL rules.
type User struct {
	Name  string
	Rules []string
}

// Options configure a Fleet.
type Options struct {
	// ID is the ID of the replication group, with which those of the nodes start.
	ID string
	// Host is the IP address that the servers and the endpoints listen on.
	Host string
	// Dir is the directory for the servers' files. With TLS it has those of the Authority.
	Dir string
	// RedisServer is the redis-server executable.
	RedisServer string
	// Authority is the CA of the servers' certificate; without one they have no TLS.
	Authority *Authority
	// Users are the ACL users.
	Users []User
}

// Fleet runs the servers of a replication group: real ones, behind stable endpoints.
type Fleet struct {
	options  Options
	password string // of adminUser
	// writers forwards to the primary, readers to the replicas.
	writers, readers *relay

	// changing serializes changes.
	changing sync.Mutex
	users    []User
	created  int // number of nodes created so far, for their names
	stopped  bool

	mu sync.Mutex
	// nodes are the servers, the primary first. The slice is replaced, never modified.
	nodes []*node
}

// Open opens the endpoints of a fleet, which has no servers yet.
func Open(o Options) (*Fleet, error) {
	f := &Fleet{options: o, password: rand.Text(), users: o.Users}
	var err error
	if f.writers, err = newRelay(o.Host); err != nil {
		return nil, err
	}
	if f.readers, err = newRelay(o.Host); err != nil {
		f.writers.close()
		return nil, err
	}
	return f, nil
}

// WriterPort is the port of the endpoint that forwards to the primary.
func (f *Fleet) WriterPort() int { return f.writers.port() }

// ReaderPort is the port of the endpoint that forwards to the replicas, and without any
// to the primary.
func (f *Fleet) ReaderPort() int { return f.readers.port() }

// Node is a server of a fleet.
type Node struct {
	ID   string
	Port int
}

// Nodes returns the servers, the primary first.
func (f *Fleet) Nodes() []Node {
	var nodes []Node
	for _, n := range f.members() {
		nodes = append(nodes, Node{ID: n.id, Port: n.port})
	}
	return nodes
}

// Resize starts or stops servers until there are n, each with the current users.
func (f *Fleet) Resize(ctx context.Context, n int) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	if f.stopped {
		return fmt.Errorf("group %s was deleted", f.options.ID)
	}
	for len(f.members()) < n {
		added, err := f.add(ctx)
		if err != nil {
			return err
		}
		f.setNodes(append(slices.Clone(f.members()), added))
	}
	nodes := f.members()
	f.setNodes(slices.Clone(nodes[:n]))
	for _, removed := range nodes[n:] {
		removed.stop()
	}
	return nil
}

// add starts a server, which is not one of the nodes yet.
func (f *Fleet) add(ctx context.Context) (*node, error) {
	var primary *node
	if nodes := f.members(); len(nodes) > 0 {
		primary = nodes[0]
	}
	f.created++
	added, err := f.startNode(ctx, fmt.Sprintf("%s-%03d", f.options.ID, f.created), primary)
	if err != nil {
		return nil, err
	}
	if err := setUsers(ctx, added, f.users, nil); err != nil {
		added.stop()
		return nil, err
	}
	return added, nil
}

// members returns the nodes, the primary first.
func (f *Fleet) members() []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes
}

// setNodes replaces the nodes and points the endpoints at the new ones.
func (f *Fleet) setNodes(nodes []*node) {
	f.mu.Lock()
	f.nodes = nodes
	f.mu.Unlock()
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.address())
	}
	f.writers.setTargets(addresses[:min(1, len(addresses))]...)
	if len(addresses) > 1 {
		addresses = addresses[1:]
	}
	f.readers.setTargets(addresses...)
}

// SetUsers sets the ACL users of all servers to the result of latest, which is called
// when all previous changes are done, so that the last change wins. Connections of users
// that still exist stay open, whichever password they authenticated with.
func (f *Fleet) SetUsers(ctx context.Context, latest func() []User) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	users := latest()
	var errs error
	for _, n := range f.members() {
		errs = errors.Join(errs, setUsers(ctx, n, users, f.users))
	}
	f.users = users
	return errs
}

func setUsers(ctx context.Context, n *node, users, before []User) error {
	for _, l := range users {
		args := []any{"ACL", "SETUSER", l.Name, "reset"}
		for _, rule := range l.Rules {
			args = append(args, rule)
		}
		if err := n.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("creating user %s on %s: %w", l.Name, n.id, err)
		}
	}
	for _, old := range before {
		if slices.ContainsFunc(users, func(l User) bool { return l.Name == old.Name }) {
			continue
		}
		args := []any{"ACL", "DELUSER", old.Name}
		if old.Name == "default" { // which cannot be deleted
			args = []any{"ACL", "SETUSER", "default", "reset"}
		}
		if err := n.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("removing user %s from %s: %w", old.Name, n.id, err)
		}
	}
	return nil
}

// Failover promotes the first replica and makes all other nodes, including the old
// primary, replicas of it.
func (f *Fleet) Failover(ctx context.Context, cut bool) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	nodes := f.members()
	if len(nodes) < 2 {
		return fmt.Errorf("group %s has no replica to fail over to", f.options.ID)
	}
	promoted, others := nodes[1], append(slices.Clone(nodes[2:]), nodes[0])
	if err := promoted.client.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		return fmt.Errorf("promoting %s: %w", promoted.id, err)
	}
	f.setNodes(append([]*node{promoted}, others...))
	var errs error
	for _, n := range others {
		if err := n.client.Do(ctx, "REPLICAOF", promoted.host, promoted.port).Err(); err != nil {
			errs = errors.Join(errs, fmt.Errorf("demoting %s: %w", n.id, err))
		}
	}
	if cut {
		f.Cut()
	}
	return errs
}

// Cut closes all client connections.
func (f *Fleet) Cut() {
	f.writers.cut()
	f.readers.cut()
}

// Stop closes the endpoints and stops the servers.
func (f *Fleet) Stop() {
	f.changing.Lock()
	defer f.changing.Unlock()
	f.stopped = true
	f.writers.close()
	f.readers.close()
	f.mu.Lock()
	nodes := f.nodes
	f.nodes = nil
	f.mu.Unlock()
	for _, n := range nodes {
		n.stop()
	}
}

// config renders a node's redis.conf.
func (f *Fleet) config(n, primary *node) string {
	lines := []string{
		"bind " + n.host, "protected-mode no", "dir " + n.dir, "save \"\"", "appendonly no", "loglevel warning",
		"repl-diskless-sync-delay 0", "user default off",
		"user " + adminUser + " on >" + f.password + " ~* &* +@all", "masteruser " + adminUser, "masterauth " + f.password,
	}
	port := fmt.Sprint(n.port)
	if f.options.Authority != nil {
		lines = append(lines, "port 0", "tls-port "+port, "tls-auth-clients no", "tls-replication yes",
			"tls-ca-cert-file "+filepath.Join(f.options.Dir, "ca.crt"),
			"tls-cert-file "+filepath.Join(f.options.Dir, "server.crt"), "tls-key-file "+filepath.Join(f.options.Dir, "server.key"))
	} else {
		lines = append(lines, "port "+port)
	}
	if primary != nil {
		lines = append(lines, fmt.Sprintf("replicaof %s %d", primary.host, primary.port))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (f *Fleet) adminOptions(n *node) *redis.Options {
	o := &redis.Options{Addr: n.address(), Username: adminUser, Password: f.password, ClientName: adminUser}
	if f.options.Authority != nil {
		o.TLSConfig = f.options.Authority.client(n.host)
	}
	return o
}
