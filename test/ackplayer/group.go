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

	"github.com/flagcache/flagcache/controllers/ack"
)

// group is a replication group as AWS has it.
type group struct {
	id string
	// fields are AWS' values, by their names in ACK's spec.
	fields  map[string]any
	created time.Time
	// tokens are those that log in: the current one and the one before.
	tokens       []string
	tokenChanged time.Time
	// dooms says that creating it will fail.
	dooms bool
	phase phase
	fleet *fleet
}

// phase is what AWS is doing with a group: until a time, and until the work is
// done. After that the group is available, or gone.
type phase struct {
	state string
	until time.Time
	done  chan struct{}
	// err is what the work came to, once it is done.
	err error
}

// over tells whether the phase is.
func (p *phase) over() bool {
	select {
	case <-p.done:
		return !time.Now().Before(p.until)
	default:
		return false
	}
}

// begin starts a phase of a group; the account's lock is held. Work may be nil.
func (a *account) begin(g *group, state string, d time.Duration, work func(context.Context) error) {
	p := phase{state: state, until: time.Now().Add(d), done: make(chan struct{})}
	g.phase = p
	if work == nil {
		close(p.done)
		return
	}
	a.running.Go(func() {
		defer close(p.done)
		if err := work(a.ends); err != nil && a.ends.Err() == nil {
			a.log.Error(err, "Failing at a replication group", "group", g.id, "state", state)
			a.mu.Lock()
			defer a.mu.Unlock()
			g.phase.err = err
		}
	})
}

// state is AWS' word for how a group is; the account's lock is held.
func (g *group) state() string {
	switch {
	case g.phase.state == ack.GroupDeleting || !g.phase.over():
		return g.phase.state
	case g.phase.state == ack.GroupCreating && (g.dooms || g.phase.err != nil):
		g.phase.state = ack.GroupCreateFailed
	case g.phase.state != ack.GroupCreateFailed:
		g.phase.state = ack.GroupAvailable
	}
	return g.phase.state
}

// has tells whether a node is one of the group's.
func (g *group) has(id string) bool {
	return slices.ContainsFunc(g.fleet.now(), func(n *node) bool { return n.id == id })
}

// groupOf is the group with an ID, nil where there is none; the lock is held.
func (a *account) groupOf(id string) *group {
	g := a.groups[id]
	if g != nil && g.phase.state == ack.GroupDeleting && g.phase.over() {
		delete(a.groups, id)
		return nil
	}
	return g
}

// Fields of a group's spec, by what becomes of them.
var (
	// mentionedFields are in AWS' answers to calls, so ACK writes them into the spec.
	mentionedFields = []string{
		"replicationGroupID", "description", "engine", "cacheNodeType", "atRestEncryptionEnabled", "transitEncryptionEnabled",
		"kmsKeyID", "ipDiscovery", "networkType", "snapshotRetentionLimit", "snapshotWindow", "userGroupIDs",
	}
	// comparedFields are those that ACK compares. It ignores changes of the others.
	comparedFields = append([]string{"tags", "atRestEncryptionEnabled", "replicasPerNodeGroup", "securityGroupIDs", "engineVersion", "description",
		"snapshotRetentionLimit", "snapshotWindow", "preferredMaintenanceWindow", "transitEncryptionEnabled"}, modifyingFields...)
	// modifyingFields are those whose change takes time.
	modifyingFields = []string{"cacheNodeType", "multiAZEnabled", "automaticFailoverEnabled", "userGroupIDs", "cacheParameterGroupName"}
)

// groupDefaults is what AWS takes for fields that a call to create leaves out.
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
			family = "default.valkey" + strings.TrimPrefix(semver.Major("v"+text(fields, "engineVersion")), "v")
		}
		fields["cacheParameterGroupName"] = family
	}
	return fields
}

// pick are those of the fields that are named and there.
func pick(fields map[string]any, names ...string) map[string]any {
	picked := map[string]any{}
	for _, name := range names {
		if value, ok := fields[name]; ok {
			picked[name] = value
		}
	}
	return picked
}

// answer is what AWS says of a group; the account's lock is held.
func (a *account) answer(g *group) *answer {
	state := g.state()
	said := &answer{state: state, stateField: "status", status: a.groupStatus(g, state), mentioned: pick(g.fields, mentionedFields...), late: pick(g.fields, "durability")}
	if state == ack.GroupAvailable { // it is read from a node
		said.late = pick(g.fields, "durability", "cacheParameterGroupName")
	}
	return said
}

func (a *account) groupStatus(g *group, state string) map[string]any {
	created := metav1.NewTime(g.created).Rfc3339Copy()
	nodes := g.fleet.now()
	names := []string{}
	for _, n := range nodes {
		names = append(names, n.id)
	}
	status := ack.ReplicationGroupStatus{
		Status: ack.Status{ACKResourceMetadata: &ack.ResourceMetadata{ARN: arn("replicationgroup", g.id), OwnerAccountID: accountID, Region: region}},
		State:  state, ReplicationGroupCreateTime: &created, MemberClusters: names,
		AutomaticFailover: enabled(g.fields["automaticFailoverEnabled"]), MultiAZ: enabled(g.fields["multiAZEnabled"]),
	}
	if !g.tokenChanged.IsZero() {
		changed := metav1.NewTime(g.tokenChanged).Rfc3339Copy()
		status.AuthTokenLastModifiedDate = &changed
	}
	shard := ack.NodeGroup{NodeGroupID: "0001", Status: state}
	switch state {
	case ack.GroupCreating: // no endpoints yet
	case ack.GroupCreateFailed:
		status.Events = []ack.Event{{Message: fmt.Sprintf("Replication group %s failed to create", g.id)}}
	default:
		shard.PrimaryEndpoint = a.endpoint(g.fleet.writers.port())
		shard.ReaderEndpoint = a.endpoint(g.fleet.readers.port())
		for i, n := range nodes {
			member := ack.NodeGroupMember{CacheClusterID: n.id, CurrentRole: "replica", ReadEndpoint: a.endpoint(n.port)}
			if i == 0 {
				member.CurrentRole = "primary"
			}
			shard.NodeGroupMembers = append(shard.NodeGroupMembers, member)
		}
	}
	status.NodeGroups = []ack.NodeGroup{shard}
	return plain(status)
}

func (a *account) endpoint(port int) *ack.Endpoint {
	return &ack.Endpoint{Address: a.options.AdvertiseHost, Port: int64(port)}
}

func enabled(field any) string {
	if field == true {
		return "enabled"
	}
	return "disabled"
}

// loginsOf are who can log in to a group; the account's lock is held.
func (a *account) loginsOf(g *group) []login {
	groups, _ := g.fields["userGroupIDs"].([]any)
	if len(groups) == 0 {
		return []login{{"default", slices.Concat([]string{"on"}, passwords(g.tokens), []string{"~*", "&*", "+@all"}, withheld)}}
	}
	var logins []login
	for _, id := range groups {
		members := a.thing("UserGroup", fmt.Sprint(id))
		if members == nil {
			continue
		}
		ids, _ := members.spec["userIDs"].([]any)
		for _, user := range ids {
			if u := a.thing("User", fmt.Sprint(user)); u != nil {
				logins = append(logins, u.login())
			}
		}
	}
	return logins
}
