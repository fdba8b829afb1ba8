// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/controllers/ack"
)

// group is a replication group in AWS.
type group struct {
	id string
	// fields are the values in AWS, keyed by the field names of ACK's spec.
	fields  map[string]any
	created time.Time
	// tokens are the valid AUTH tokens: the current and the previous one.
	tokens       []string
	tokenChanged time.Time
	// createFails makes the creation of the group fail.
	createFails bool
	phase       phase
	fleet       *fleet
}

// phase is an operation of AWS on a group. It lasts until a time and until its work is
// done; then the group is available, or deleted.
type phase struct {
	state string
	until time.Time
	done  chan struct{}
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

// startPhase starts a phase of a group; work may be nil. The caller holds the
// account's lock.
func (a *account) startPhase(g *group, state string, d time.Duration, work func(context.Context) error) {
	p := phase{state: state, until: time.Now().Add(d), done: make(chan struct{})}
	g.phase = p
	if work == nil {
		close(p.done)
		return
	}
	a.background.Go(func() {
		defer close(p.done)
		if err := work(a.ctx); err != nil && a.ctx.Err() == nil {
			a.log.Error(err, "Changing a replication group failed", "group", g.id, "state", state)
			a.mu.Lock()
			defer a.mu.Unlock()
			g.phase.err = err
		}
	})
}

// state is the status that AWS reports for a group. The caller holds the account's
// lock.
func (g *group) state() string {
	switch {
	case g.phase.state == ack.GroupDeleting || !g.phase.finished():
		return g.phase.state
	case g.phase.state == ack.GroupCreating && (g.createFails || g.phase.err != nil):
		g.phase.state = ack.GroupCreateFailed
	case g.phase.state != ack.GroupCreateFailed:
		g.phase.state = ack.GroupAvailable
	}
	return g.phase.state
}

// hasNode reports whether the group has a node with this ID.
func (g *group) hasNode(id string) bool {
	return slices.ContainsFunc(g.fleet.members(), func(n *node) bool { return n.id == id })
}

// findGroup returns the group with an ID, or nil. The caller holds the lock.
func (a *account) findGroup(id string) *group {
	g := a.groups[id]
	if g != nil && g.phase.state == ack.GroupDeleting && g.phase.finished() {
		delete(a.groups, id)
		return nil
	}
	return g
}

// Fields of a group's spec, by how ACK treats them.
var (
	// returnedFields are part of the responses of AWS, so ACK writes them into the spec.
	returnedFields = []string{
		"replicationGroupID", "description", "engine", "cacheNodeType", "atRestEncryptionEnabled", "transitEncryptionEnabled",
		"kmsKeyID", "ipDiscovery", "networkType", "snapshotRetentionLimit", "snapshotWindow", "userGroupIDs",
	}
	// comparedFields are compared by ACK. It ignores changes of all other fields.
	comparedFields = append([]string{"tags", "atRestEncryptionEnabled", "replicasPerNodeGroup", "securityGroupIDs", "engineVersion", "description",
		"snapshotRetentionLimit", "snapshotWindow", "preferredMaintenanceWindow", "transitEncryptionEnabled"}, modifyingFields...)
	// modifyingFields put the group into the state modifying for a while.
	modifyingFields = []string{"cacheNodeType", "multiAZEnabled", "automaticFailoverEnabled", "userGroupIDs", "cacheParameterGroupName"}
)

// groupDefaults completes a spec with the defaults of AWS.
func groupDefaults(spec map[string]any) map[string]any {
	fields := map[string]any{
		"engine": "redis", "engineVersion": "7.1", "cacheNodeType": "cache.r6g.large",
		"numNodeGroups": int64(1), "replicasPerNodeGroup": int64(0),
		"automaticFailoverEnabled": false, "multiAZEnabled": false,
		"transitEncryptionEnabled": false, "atRestEncryptionEnabled": false,
		"ipDiscovery": "ipv4", "networkType": "ipv4", "durability": "default",
		"snapshotRetentionLimit": int64(0), "snapshotWindow": "05:00-06:00", "preferredMaintenanceWindow": "sun:23:00-mon:01:30",
	}
	maps.Copy(fields, spec)
	if _, given := fields["cacheParameterGroupName"]; !given {
		family := "default.redis7"
		if fields["engine"] == "valkey" {
			family = "default.valkey" + strings.TrimPrefix(semver.Major("v"+stringField(fields, "engineVersion")), "v")
		}
		fields["cacheParameterGroupName"] = family
	}
	return fields
}

// pick returns those of the named fields that are set.
func pick(fields map[string]any, names ...string) map[string]any {
	picked := map[string]any{}
	for _, name := range names {
		if value, ok := fields[name]; ok {
			picked[name] = value
		}
	}
	return picked
}

// observe describes a group as AWS does. The caller holds the account's lock.
func (a *account) observe(g *group) *observation {
	state := g.state()
	latest := &observation{state: state, stateField: "status", status: a.groupStatus(g, state), returned: pick(g.fields, returnedFields...), lateInitialized: pick(g.fields, "durability")}
	if state == ack.GroupAvailable { // AWS reads the parameter group from a node
		latest.lateInitialized = pick(g.fields, "durability", "cacheParameterGroupName")
	}
	return latest
}

func (a *account) groupStatus(g *group, state string) map[string]any {
	created := metav1.NewTime(g.created).Rfc3339Copy()
	nodes := g.fleet.members()
	names := []*string{}
	for _, n := range nodes {
		names = append(names, &n.id)
	}
	status := ack.ReplicationGroupStatus{
		Status: &state, ReplicationGroupCreateTime: &created, MemberClusters: names,
		AutomaticFailover: enabledStatus(g.fields["automaticFailoverEnabled"]), MultiAZ: enabledStatus(g.fields["multiAZEnabled"]),
	}
	if !g.tokenChanged.IsZero() {
		changed := metav1.NewTime(g.tokenChanged).Rfc3339Copy()
		status.AuthTokenLastModifiedDate = &changed
	}
	shard := &ack.NodeGroup{NodeGroupID: ptr.To("0001"), Status: &state}
	switch state {
	case ack.GroupCreating: // no endpoints yet
	case ack.GroupCreateFailed:
		status.Events = []*ack.Event{{Message: ptr.To(fmt.Sprintf("Replication group %s failed to create", g.id))}}
	default:
		shard.PrimaryEndpoint = a.endpoint(g.fleet.writers.port())
		shard.ReaderEndpoint = a.endpoint(g.fleet.readers.port())
		for i, n := range nodes {
			member := &ack.NodeGroupMember{CacheClusterID: &n.id, CurrentRole: ptr.To("replica"), ReadEndpoint: a.endpoint(n.port)}
			if i == 0 {
				member.CurrentRole = ptr.To("primary")
			}
			shard.NodeGroupMembers = append(shard.NodeGroupMembers, member)
		}
	}
	status.NodeGroups = []*ack.NodeGroup{shard}
	fields := toMap(status)
	delete(fields, "conditions")
	fields["ackResourceMetadata"] = map[string]any{"arn": arn("replicationgroup", g.id), "ownerAccountID": accountID, "region": region}
	return fields
}

func (a *account) endpoint(port int) *ack.Endpoint {
	return &ack.Endpoint{Address: &a.options.AdvertiseHost, Port: ptr.To(int64(port))}
}

func enabledStatus(field any) *string {
	if field == true {
		return ptr.To("enabled")
	}
	return ptr.To("disabled")
}

// aclUsers returns the ACL users of a group. The caller holds the account's lock.
func (a *account) aclUsers(g *group) []aclUser {
	groups, _ := g.fields["userGroupIDs"].([]any)
	if len(groups) == 0 {
		return []aclUser{{"default", slices.Concat([]string{"on"}, passwordRules(g.tokens), []string{"~*", "&*", "+@all"}, restrictedCommands)}}
	}
	var users []aclUser
	for _, id := range groups {
		members := a.resource("UserGroup", fmt.Sprint(id))
		if members == nil {
			continue
		}
		ids, _ := members.spec["userIDs"].([]any)
		for _, user := range ids {
			if u := a.resource("User", fmt.Sprint(user)); u != nil {
				users = append(users, u.aclUser())
			}
		}
	}
	return users
}
