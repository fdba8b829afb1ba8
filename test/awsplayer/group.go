// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"github.com/flagcache/flagcache/test/awsplayer/fleet"
)

// The statuses of a replication group.
const (
	statusCreating     = "creating"
	statusCreateFailed = "create-failed"
	statusAvailable    = "available"
	statusModifying    = "modifying"
	statusSnapshotting = "snapshotting"
	statusDeleting     = "deleting"
)

// settings are the properties of a replication group that can be modified.
type settings struct {
	immediate
	gradual
}

// immediate are the settings that are changed at once.
type immediate struct {
	description, snapshotWindow, maintenanceWindow, notificationTopic string

	retention               int32
	snapshottingCluster     string
	durability              types.Durability
	ipDiscovery             types.IpDiscovery
	autoMinorVersionUpgrade bool
}

// gradual are the settings whose change puts a group into the status modifying.
type gradual struct {
	nodeType, engine, engineVersion, parameterGroup string

	replicas                   int
	automaticFailover, multiAZ bool
	userGroups, securityGroups []string
	// tokens are the valid AUTH tokens: the current one and, after a rotation, the
	// previous one. open accepts clients without a token.
	tokens []string
	open   bool
}

func (a gradual) equal(b gradual) bool {
	return a.nodeType == b.nodeType && a.engine == b.engine && a.engineVersion == b.engineVersion && a.parameterGroup == b.parameterGroup &&
		a.replicas == b.replicas && a.automaticFailover == b.automaticFailover && a.multiAZ == b.multiAZ && a.open == b.open &&
		slices.Equal(a.userGroups, b.userGroups) && slices.Equal(a.securityGroups, b.securityGroups) && slices.Equal(a.tokens, b.tokens)
}

// group is a replication group with one shard.
type group struct {
	id                           string
	created, tokenChanged        time.Time
	subnetGroup, kmsKey          string
	transit, atRest, dataTiering bool
	networkType                  types.NetworkType
	// current are the settings that AWS reports, and next those after the current phase.
	current, next settings
	phase         phase
	fleet         *fleet.Fleet
	// shown are the nodes that AWS reports during the current phase, nil for those that run. A
	// node that is added or removed shows at the end, however long its server takes.
	shown []fleet.Node
}

// phase is an operation of AWS on a group. It lasts until a time and until its work is
// done; then the group is available, or deleted.
type phase struct {
	status string
	until  time.Time
	done   chan struct{}
	// fails lets the operation fail at its end: a modification is then rolled back.
	fails bool
	// err is the outcome of the work, once it is done.
	err error
}

// finished reports whether the phase has ended.
func (p *phase) finished() bool {
	select {
	case <-p.done:
		return !time.Now().Before(p.until)
	default:
		return false
	}
}

// heldFor is longer than any test.
const heldFor = 24 * time.Hour

// startPhase starts a phase of a group; work may be nil. The caller holds the lock.
func (a *account) startPhase(g *group, status string, d time.Duration, work func(context.Context) error) {
	if a.options.Hold {
		d = heldFor
	}
	done := make(chan struct{})
	g.phase = phase{status: status, until: time.Now().Add(d), done: done}
	if status == statusModifying || status == statusDeleting {
		g.shown = g.fleet.Nodes()
	}
	if work == nil {
		close(done)
		return
	}
	a.background.Go(func() {
		defer close(done)
		if err := work(a.ctx); err != nil && a.ctx.Err() == nil {
			a.log.Error(err, "Changing a replication group failed", "group", g.id, "status", status)
			a.mu.Lock()
			defer a.mu.Unlock()
			g.phase.err = err
		}
	})
}

// settle ends the phase of a group whose time has come. The caller holds the lock.
func (a *account) settle(g *group) {
	if g.phase.status == statusAvailable || g.phase.status == statusCreateFailed || !g.phase.finished() {
		return
	}
	g.shown = nil
	failed := g.phase.fails || g.phase.err != nil
	switch {
	case g.phase.status == statusDeleting:
		delete(a.groups, g.id)
		delete(a.tags, a.arn("replicationgroup", g.id))
		return
	case g.phase.status == statusCreating && failed:
		a.event(types.SourceTypeReplicationGroup, g.id, "Replication group %s failed to create", g.id)
		g.phase.status = statusCreateFailed
		return
	case g.phase.status == statusCreating:
		a.event(types.SourceTypeReplicationGroup, g.id, "Replication group %s created", g.id)
	case g.phase.status == statusModifying && failed:
		a.event(types.SourceTypeReplicationGroup, g.id, "Modification of replication group %s failed and was rolled back", g.id)
		g.next = g.current
	case g.phase.status == statusModifying:
		if !slices.Equal(g.current.tokens, g.next.tokens) {
			g.tokenChanged = time.Now().UTC()
		}
		g.current = g.next
		a.event(types.SourceTypeReplicationGroup, g.id, "Modification of replication group %s completed", g.id)
	}
	g.phase.status = statusAvailable
}

// nodes are the nodes that AWS reports. The caller holds the lock.
func (g *group) nodes() []fleet.Node {
	if g.shown != nil {
		return g.shown
	}
	return g.fleet.Nodes()
}

// modify starts the phase in which the servers of a group get the next settings. The
// caller holds the lock.
func (a *account) modify(g *group, next settings, fails bool) {
	work := func(ctx context.Context) error {
		if err := g.fleet.SetUsers(ctx, func() []fleet.User { return a.fleetUsers(g) }); err != nil {
			return err
		}
		return g.fleet.Resize(ctx, 1+next.replicas)
	}
	if fails {
		a.startPhase(g, statusModifying, a.options.ModifyTime, nil)
		g.phase.fails = true
		g.next = g.current
		return
	}
	g.next = next
	a.startPhase(g, statusModifying, a.options.ModifyTime, work)
}

// fleetUsers returns the ACL users of a group for its servers, which call it.
func (a *account) fleetUsers(g *group) []fleet.User {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.usersOf(g)
}

// refreshUsers gives the servers of all groups with a user group their users again. The
// caller holds the lock.
func (a *account) refreshUsers() {
	for _, g := range a.groups {
		if len(g.next.userGroups) == 0 || g.phase.status == statusDeleting || g.phase.status == statusCreateFailed {
			continue
		}
		a.background.Go(func() {
			if err := g.fleet.SetUsers(a.ctx, func() []fleet.User { return a.fleetUsers(g) }); err != nil && a.ctx.Err() == nil {
				a.log.Error(err, "Updating the users of a replication group failed", "group", g.id)
			}
		})
	}
}

// usersOf returns the ACL users of a group: those of its user groups, or the user named
// default with the AUTH tokens. The caller holds the lock.
func (a *account) usersOf(g *group) []fleet.User {
	if len(g.next.userGroups) == 0 {
		passwords := passwordRules(g.next.tokens)
		if g.next.open {
			passwords = append(passwords, "nopass")
		}
		return []fleet.User{{Name: "default", Rules: slices.Concat([]string{"on"}, passwords, []string{"~*", "&*", "+@all"}, restrictedCommands)}}
	}
	var users []fleet.User
	for _, id := range g.next.userGroups {
		if members := a.userGroups[id]; members != nil {
			for _, member := range members.target() {
				if u := a.users[member]; u != nil && u.deletedAt.IsZero() {
					users = append(users, u.fleetUser())
				}
			}
		}
	}
	return users
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
