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

// login is a user of Redis with the rules of its ACL.
type login struct {
	name  string
	rules []string
}

// fleet is what AWS runs for a replication group: real servers behind endpoints
// that stay.
type fleet struct {
	id          string
	host        string
	dir         string
	redisServer string
	password    string // the keeper's
	authority   *authority
	tls         bool
	// writers leads to the primary, readers to the replicas.
	writers, readers *relay

	// busy is held by whoever changes something.
	busy   sync.Mutex
	logins []login
	made   int // how many nodes there ever were, for their names

	mu sync.Mutex
	// nodes are the servers, the primary first. The slice is not changed, but
	// replaced.
	nodes []*node
}

// open opens the endpoints, behind which is nothing yet.
func (f *fleet) open() error {
	var err error
	if f.writers, err = newRelay(f.host); err != nil {
		return err
	}
	f.readers, err = newRelay(f.host)
	return err
}

// resize starts or stops servers until there are n, each with the logins.
func (f *fleet) resize(ctx context.Context, n int) error {
	f.busy.Lock()
	defer f.busy.Unlock()
	for len(f.now()) < n {
		added, err := f.add(ctx)
		if err != nil {
			return err
		}
		f.become(append(slices.Clone(f.now()), added))
	}
	nodes := f.now()
	f.become(slices.Clone(nodes[:n]))
	for _, left := range nodes[n:] {
		left.stop()
	}
	return nil
}

// add starts a server that is not yet one of the nodes.
func (f *fleet) add(ctx context.Context) (*node, error) {
	var primary *node
	if nodes := f.now(); len(nodes) > 0 {
		primary = nodes[0]
	}
	f.made++
	added, err := f.startNode(ctx, fmt.Sprintf("%s-%03d", f.id, f.made), primary)
	if err != nil {
		return nil, err
	}
	if err := admit(ctx, added, f.logins, nil); err != nil {
		added.stop()
		return nil, err
	}
	return added, nil
}

// now are the nodes, the primary first.
func (f *fleet) now() []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes
}

// become replaces the nodes and has the endpoints lead to the new ones.
func (f *fleet) become(nodes []*node) {
	f.mu.Lock()
	f.nodes = nodes
	f.mu.Unlock()
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.address())
	}
	f.writers.point(addresses[:min(1, len(addresses))]...)
	if len(addresses) > 1 {
		addresses = addresses[1:]
	}
	f.readers.point(addresses...)
}

// admit sets who can log in, on all servers. Connections of those who still can
// stay, whatever they logged in with.
func (f *fleet) admit(ctx context.Context, logins []login) error {
	f.busy.Lock()
	defer f.busy.Unlock()
	var errs error
	for _, n := range f.now() {
		errs = errors.Join(errs, admit(ctx, n, logins, f.logins))
	}
	f.logins = logins
	return errs
}

func admit(ctx context.Context, n *node, logins, before []login) error {
	for _, l := range logins {
		args := []any{"ACL", "SETUSER", l.name, "reset"}
		for _, rule := range l.rules {
			args = append(args, rule)
		}
		if err := n.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("letting user %s into %s: %w", l.name, n.id, err)
		}
	}
	for _, old := range before {
		if slices.ContainsFunc(logins, func(l login) bool { return l.name == old.name }) {
			continue
		}
		args := []any{"ACL", "DELUSER", old.name}
		if old.name == "default" { // which cannot be deleted
			args = []any{"ACL", "SETUSER", "default", "reset"}
		}
		if err := n.client.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("keeping user %s out of %s: %w", old.name, n.id, err)
		}
	}
	return nil
}

// failover promotes the first replica and makes the others, with the old primary,
// replicas of it.
func (f *fleet) failover(ctx context.Context, cut bool) error {
	f.busy.Lock()
	defer f.busy.Unlock()
	nodes := f.now()
	if len(nodes) < 2 {
		return fmt.Errorf("group %s has no replica to fail over to", f.id)
	}
	promoted, others := nodes[1], append(slices.Clone(nodes[2:]), nodes[0])
	if err := promoted.client.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		return fmt.Errorf("promoting %s: %w", promoted.id, err)
	}
	f.become(append([]*node{promoted}, others...))
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

// cut closes the connections of all clients.
func (f *fleet) cut() {
	f.writers.cut()
	f.readers.cut()
}

// stop ends the endpoints and the servers.
func (f *fleet) stop() {
	f.busy.Lock()
	defer f.busy.Unlock()
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

// config is a node's redis.conf.
func (f *fleet) config(n, primary *node) string {
	lines := []string{
		"bind " + n.host, "protected-mode no", "dir " + n.dir, "save \"\"", "appendonly no", "loglevel warning",
		"repl-diskless-sync-delay 0", "user default off",
		"user " + keeper + " on >" + f.password + " ~* &* +@all", "masteruser " + keeper, "masterauth " + f.password,
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

func (f *fleet) keeperOptions(n *node) *redis.Options {
	o := &redis.Options{Addr: n.address(), Username: keeper, Password: f.password, ClientName: keeper}
	if f.tls {
		o.TLSConfig = f.authority.client(n.host)
	}
	return o
}

// withheld are the commands that AWS lets nobody use.
var withheld = []string{
	"-acl|setuser", "-acl|deluser", "-acl|load", "-acl|save", "-bgrewriteaof", "-bgsave", "-config", "-debug", "-failover",
	"-migrate", "-module", "-psync", "-replicaof", "-save", "-shutdown", "-slaveof", "-sync",
}

// passwords are the rules for what logs a user in; without any, anything does.
func passwords(words []string) []string {
	if len(words) == 0 {
		return []string{"nopass"}
	}
	var rules []string
	for _, word := range words {
		rules = append(rules, ">"+word)
	}
	return rules
}
