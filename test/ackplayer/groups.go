// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/flagcache/flagcache/controllers/ack"
)

// groups is the service of replication groups.
type groups struct{ *account }

const kindGroup = "ReplicationGroup"

// id is in lower case, whatever was asked for.
func (s groups) id(spec map[string]any) string {
	return strings.ToLower(text(spec, "replicationGroupID"))
}

func (s groups) read(id string) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groupOf(id); g != nil {
		return s.answer(g)
	}
	return nil
}

func (s groups) create(ctx context.Context, o *object) error {
	token, err := o.secret(ctx, o.spec()["authToken"])
	if err != nil {
		return err
	}
	id := s.id(o.spec())
	var dooms bool
	if err := s.call(ctx, Create, kindGroup, id); err != nil {
		var f fault
		if !errors.As(err, &f) || f.code != CreateFailed {
			return err
		}
		dooms = true
	}
	g := &group{id: id, fields: groupDefaults(o.spec()), created: time.Now(), dooms: dooms}
	g.fields["replicationGroupID"] = id
	if token != "" {
		g.tokens = []string{token}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.permit(Create, g, g.fields, token); err != nil {
		return err
	}
	return s.build(g)
}

// build opens a group's endpoints and starts its servers; the lock is held.
func (s groups) build(g *group) error {
	g.fleet = &fleet{
		id: g.id, host: s.options.ListenHost, dir: s.dir, redisServer: s.options.RedisServer, password: rand.Text(),
		authority: s.authority, tls: g.fields["transitEncryptionEnabled"] == true, logins: s.loginsOf(g),
	}
	if err := g.fleet.open(); err != nil {
		g.fleet.stop()
		return err
	}
	s.groups[g.id] = g
	nodes := nodesOf(g.fields)
	s.begin(g, ack.GroupCreating, s.options.CreateTime, func(ctx context.Context) error {
		if g.dooms {
			return nil
		}
		return g.fleet.resize(ctx, nodes)
	})
	return nil
}

func nodesOf(fields map[string]any) int {
	replicas, _ := fields["replicasPerNodeGroup"].(int64)
	return 1 + int(replicas)
}

// permit is what AWS checks of fields that a group is to have; the lock is held.
func (s groups) permit(op Operation, g *group, fields map[string]any, token string) error {
	refuse := func(code, message string) error { return fault{op: op, kind: kindGroup, code: code, message: message} }
	all := maps.Clone(g.fields)
	maps.Copy(all, fields)
	userGroups, _ := all["userGroupIDs"].([]any)
	secure := all["transitEncryptionEnabled"] == true
	switch {
	case token != "" && (len(token) < 16 || len(token) > 128):
		return refuse(codeValue, "The AUTH token must have 16 to 128 characters.")
	case (token != "" || len(userGroups) > 0) && !secure:
		return refuse(codeCombination, "Authentication is only possible with encryption in transit.")
	case all["automaticFailoverEnabled"] == true && nodesOf(all) < 2:
		return refuse(codeCombination, "Automatic failover needs a replica.")
	case all["multiAZEnabled"] == true && all["automaticFailoverEnabled"] != true:
		return refuse(codeCombination, "Multi-AZ needs automatic failover.")
	case strings.Contains(text(all, "cacheNodeType"), "gd.") != (all["dataTieringEnabled"] == true):
		return refuse(codeCombination, "Nodes of the family r6gd have data tiering, and no others do.")
	case all["numNodeGroups"] != int64(1):
		return refuse(codeCombination, "Only groups of one shard are played.")
	case op == Modify && g.fields["snapshotRetentionLimit"] == int64(0) && all["snapshotRetentionLimit"] != int64(0):
		return refuse(codeCombination, "Must specify both SnapshotRetentionLimit and SnapshottingClusterId to turn on snapshots")
	case op == Modify && g.fields["transitEncryptionEnabled"] != all["transitEncryptionEnabled"]:
		return refuse(codeCombination, "Encryption in transit cannot be changed at once.")
	case op == Modify && semver.Compare("v"+text(all, "engineVersion"), "v"+text(g.fields, "engineVersion")) < 0:
		return refuse(codeCombination, "The engine's version cannot go back.")
	}
	return s.resolve(op, all, userGroups)
}

// resolve checks that AWS has what a group names; the lock is held.
func (s groups) resolve(op Operation, fields map[string]any, userGroups []any) error {
	missing := func(code string) error {
		return fault{op: op, kind: kindGroup, code: code, message: "It does not exist."}
	}
	subnets := text(fields, "cacheSubnetGroupName")
	if subnets != "" && !slices.Contains(s.options.SubnetGroups, subnets) && s.thing("CacheSubnetGroup", subnets) == nil {
		return missing("CacheSubnetGroupNotFoundFault")
	}
	parameters := text(fields, "cacheParameterGroupName")
	if !strings.HasPrefix(parameters, "default.") && s.thing("CacheParameterGroup", parameters) == nil {
		return missing("CacheParameterGroupNotFound")
	}
	for _, id := range userGroups {
		if g := s.thing("UserGroup", fmt.Sprint(id)); g == nil || !g.ready() {
			return missing("UserGroupNotFound")
		}
	}
	return nil
}

func (s groups) update(ctx context.Context, o *object) (map[string]any, error) {
	g, diff, state := s.compare(o)
	if g == nil {
		return nil, nil
	}
	if state == ack.GroupAvailable && asksForNothing(o.spec()) {
		if err := s.empty(ctx, g.id); err != nil {
			return nil, err
		}
	}
	// What ACK compares other security groups with is a copy of them: it sends them,
	// first, where something else differs.
	if exchange := pick(diff, "securityGroupIDs"); len(diff) == len(exchange) {
		return nil, nil
	}
	if tags := pick(diff, "tags"); len(tags) > 0 {
		return nil, s.tag(g, tags)
	}
	if state != ack.GroupAvailable {
		return nil, pending(textUnmodified)
	}
	if replicas := pick(diff, "replicasPerNodeGroup"); len(replicas) > 0 {
		return s.scale(ctx, g, replicas)
	}
	if first := pick(diff, "securityGroupIDs", "engineVersion"); len(first) > 0 {
		// The rest is written over, as it is for replicas.
		maps.Copy(first, pick(diff, "cacheParameterGroupName"))
		return s.modify(ctx, g, first, "", true)
	}
	token, err := o.secret(ctx, o.spec()["authToken"])
	if err != nil {
		return nil, err
	}
	return s.modify(ctx, g, diff, token, false)
}

// asksForNothing tells of specs for which ACK sends a call without any change.
func asksForNothing(spec map[string]any) bool {
	return spec["cacheParameterGroupName"] == nil && (spec["engineVersion"] != nil || spec["securityGroupIDs"] != nil)
}

func (s groups) empty(ctx context.Context, id string) error {
	if err := s.call(ctx, Modify, kindGroup, id); err != nil {
		return err
	}
	if s.options.RejectEmptyModify {
		return fault{op: Modify, kind: kindGroup, code: codeCombination, message: "No modifications were requested"}
	}
	return nil
}

// compare finds what a spec has otherwise than AWS. What it leaves out is no
// opinion.
func (s groups) compare(o *object) (g *group, diff map[string]any, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.groupOf(s.id(o.spec())); g == nil {
		return nil, nil, ""
	}
	diff = pick(o.spec(), comparedFields...)
	maps.DeleteFunc(diff, func(name string, value any) bool { return same(name, value, g.fields[name]) })
	return g, diff, g.state()
}

// scale changes the number of replicas. What AWS answers goes over the spec, so
// other changes that waited there are lost.
func (s groups) scale(ctx context.Context, g *group, replicas map[string]any) (map[string]any, error) {
	if err := s.call(ctx, Modify, kindGroup, g.id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.permit(Modify, g, replicas, ""); err != nil {
		return nil, err
	}
	maps.Copy(g.fields, replicas)
	nodes := nodesOf(g.fields)
	s.begin(g, ack.GroupModifying, s.options.ModifyTime, func(ctx context.Context) error { return g.fleet.resize(ctx, nodes) })
	return pick(g.fields, mentionedFields...), nil
}

// modify changes fields of a group. A token that is not the current one becomes
// it, and the one before stays: AWS' ROTATE.
func (s groups) modify(ctx context.Context, g *group, fields map[string]any, token string, slow bool) (map[string]any, error) {
	if err := s.call(ctx, Modify, kindGroup, g.id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fields = maps.Clone(fields)
	delete(fields, "atRestEncryptionEnabled") // which AWS does not change
	if err := s.permit(Modify, g, fields, token); err != nil {
		return nil, err
	}
	maps.Copy(g.fields, fields)
	if token != "" && (len(g.tokens) == 0 || g.tokens[0] != token) {
		g.tokens = append([]string{token}, g.tokens[:min(1, len(g.tokens))]...)
		g.tokenChanged, slow = time.Now(), true
	}
	if slow || len(pick(fields, modifyingFields...)) > 0 {
		logins := s.loginsOf(g)
		s.begin(g, ack.GroupModifying, s.options.ModifyTime, func(ctx context.Context) error { return g.fleet.admit(ctx, logins) })
	}
	return pick(g.fields, mentionedFields...), nil
}

// tag changes the tags, which ACK waits for.
func (s groups) tag(g *group, tags map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(g.fields, tags)
	return pending(textTagging)
}

func (s groups) delete(ctx context.Context, id string) error {
	if err := s.call(ctx, Delete, kindGroup, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groupOf(id)
	if g == nil {
		return nil
	}
	if state := g.state(); state != ack.GroupAvailable && state != ack.GroupCreateFailed {
		return fault{op: Delete, kind: kindGroup, code: codeState, message: "Replication group " + id + " is " + state + "."}
	}
	s.begin(g, ack.GroupDeleting, s.options.DeleteTime, func(context.Context) error {
		g.fleet.stop()
		return nil
	})
	return nil
}

// same compares two values of a field.
func same(name string, a, b any) bool {
	if name == "engineVersion" && a != nil && b != nil { // 7.1 and 7.1.0 are the same
		return semver.Compare(fmt.Sprint("v", a), fmt.Sprint("v", b)) == 0
	}
	return reflect.DeepEqual(a, b)
}
