// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// aclUser is a Redis user with its ACL rules.
type aclUser struct {
	name  string
	rules []string
}

// fleet runs the servers of a replication group: real ones, behind stable endpoints.
type fleet struct {
	id          string
	host        string
	dir         string
	redisServer string
	password    string // of adminUser
	ca          *certificateAuthority
	tls         bool
	// writers forwards to the primary, readers to the replicas.
	writers, readers *relay

	// changing serializes changes.
	changing sync.Mutex
	users    []aclUser
	created  int // number of nodes created so far, for their names

	mu sync.Mutex
	// nodes are the servers, the primary first. The slice is replaced, never modified.
	nodes []*node
}

// open opens the endpoints, which have no servers yet.
func (f *fleet) open() error {
	var err error
	if f.writers, err = newRelay(f.host); err != nil {
		return err
	}
	f.readers, err = newRelay(f.host)
	return err
}

// resize starts or stops servers until there are n, each with the current users.
func (f *fleet) resize(ctx context.Context, n int) error {
	f.changing.Lock()
	defer f.changing.Unlock()
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
func (f *fleet) add(ctx context.Context) (*node, error) {
	var primary *node
	if nodes := f.members(); len(nodes) > 0 {
		primary = nodes[0]
	}
	f.created++
	added, err := f.startNode(ctx, fmt.Sprintf("%s-%03d", f.id, f.created), primary)
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
func (f *fleet) members() []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes
}

// setNodes replaces the nodes and points the endpoints at the new ones.
func (f *fleet) setNodes(nodes []*node) {
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

// setUsers sets the ACL users of all servers. Connections of users that still exist
// stay open, whichever password they authenticated with.
func (f *fleet) setUsers(ctx context.Context, users []aclUser) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	var errs error
	for _, n := range f.members() {
		errs = errors.Join(errs, setUsers(ctx, n, users, f.users))
	}
	f.users = users
	return errs
}

func setUsers(ctx context.Context, n *node, users, before []aclUser) error {
	for _, l := range users {
		args := []any{"ACL", "SETUSER", l.name, "reset"}
		for _, rule := range l.rules {
			args = append(args, rule)
		}
		if err := n.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("creating user %s on %s: %w", l.name, n.id, err)
		}
	}
	for _, old := range before {
		if slices.ContainsFunc(users, func(l aclUser) bool { return l.name == old.name }) {
			continue
		}
		args := []any{"ACL", "DELUSER", old.name}
		if old.name == "default" { // which cannot be deleted
			args = []any{"ACL", "SETUSER", "default", "reset"}
		}
		if err := n.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("removing user %s from %s: %w", old.name, n.id, err)
		}
	}
	return nil
}

// failover promotes the first replica and makes all other nodes, including the old
// primary, replicas of it.
func (f *fleet) failover(ctx context.Context, cut bool) error {
	f.changing.Lock()
	defer f.changing.Unlock()
	nodes := f.members()
	if len(nodes) < 2 {
		return fmt.Errorf("group %s has no replica to fail over to", f.id)
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
		f.cut()
	}
	return errs
}

// cut closes all client connections.
func (f *fleet) cut() {
	f.writers.cut()
	f.readers.cut()
}

// stop closes the endpoints and stops the servers.
func (f *fleet) stop() {
	f.changing.Lock()
	defer f.changing.Unlock()
	for _, r := range []*relay{f.writers, f.readers} {
		if r != nil {
			r.close()
		}
	}
	f.mu.Lock()
	nodes := f.nodes
	f.nodes = nil
	f.mu.Unlock()
	for _, n := range nodes {
		n.stop()
	}
}

// config renders a node's redis.conf.
func (f *fleet) config(n, primary *node) string {
	lines := []string{
		"bind " + n.host, "protected-mode no", "dir " + n.dir, "save \"\"", "appendonly no", "loglevel warning",
		"repl-diskless-sync-delay 0", "user default off",
		"user " + adminUser + " on >" + f.password + " ~* &* +@all", "masteruser " + adminUser, "masterauth " + f.password,
	}
	port := fmt.Sprint(n.port)
	if f.tls {
		lines = append(lines, "port 0", "tls-port "+port, "tls-auth-clients no", "tls-replication yes",
			"tls-ca-cert-file "+filepath.Join(f.dir, "ca.crt"),
			"tls-cert-file "+filepath.Join(f.dir, "server.crt"), "tls-key-file "+filepath.Join(f.dir, "server.key"))
	} else {
		lines = append(lines, "port "+port)
	}
	if primary != nil {
		lines = append(lines, fmt.Sprintf("replicaof %s %d", primary.host, primary.port))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (f *fleet) adminOptions(n *node) *redis.Options {
	o := &redis.Options{Addr: n.address(), Username: adminUser, Password: f.password, ClientName: adminUser}
	if f.tls {
		o.TLSConfig = f.ca.client(n.host)
	}
	return o
}

// restrictedCommands are the commands that ElastiCache does not offer.
var restrictedCommands = []string{
	"-acl|setuser", "-acl|deluser", "-acl|load", "-acl|save", "-bgrewriteaof", "-bgsave", "-config", "-debug", "-failover",
	"-migrate", "-module", "-psync", "-replicaof", "-save", "-shutdown", "-slaveof", "-sync",
}

// passwordRules are the ACL rules for a user's passwords; without passwords, any is
// accepted.
func passwordRules(passwords []string) []string {
	if len(passwords) == 0 {
		return []string{"nopass"}
	}
	var rules []string
	for _, password := range passwords {
		rules = append(rules, ">"+password)
	}
	return rules
}
