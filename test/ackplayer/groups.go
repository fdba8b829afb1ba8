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

// groupService implements service for replication groups.
type groupService struct{ *account }

const kindGroup = "ReplicationGroup"

// id is the spec's ID in lower case, as AWS stores it.
func (s groupService) id(spec map[string]any) string {
	return strings.ToLower(stringField(spec, "replicationGroupID"))
}

func (s groupService) read(id string) *observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.findGroup(id); g != nil {
		return s.observe(g)
	}
	return nil
}

func (s groupService) create(ctx context.Context, o *object) error {
	token, err := o.secret(ctx, o.spec()["authToken"])
	if err != nil {
		return err
	}
	id := s.id(o.spec())
	var dooms bool
	if err := s.call(ctx, Create, kindGroup, id); err != nil {
		var f awsError
		if !errors.As(err, &f) || f.code != CreateFailed {
			return err
		}
		dooms = true
	}
	g := &group{id: id, fields: groupDefaults(o.spec()), created: time.Now(), createFails: dooms}
	g.fields["replicationGroupID"] = id
	if token != "" {
		g.tokens = []string{token}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.validate(Create, g, g.fields, token); err != nil {
		return err
	}
	return s.launch(g)
}

// launch opens a group's endpoints and starts its servers. The caller holds the lock.
func (s groupService) launch(g *group) error {
	g.fleet = &fleet{
		id: g.id, host: s.options.ListenHost, dir: s.dir, redisServer: s.options.RedisServer, password: rand.Text(),
		ca: s.ca, tls: g.fields["transitEncryptionEnabled"] == true, users: s.aclUsers(g),
	}
	if err := g.fleet.open(); err != nil {
		g.fleet.stop()
		return err
	}
	s.groups[g.id] = g
	nodes := nodesOf(g.fields)
	s.startPhase(g, ack.GroupCreating, s.options.CreateTime, func(ctx context.Context) error {
		if g.createFails {
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

// validate performs the checks of AWS on fields to be set on a group. The caller holds
// the lock.
func (s groupService) validate(op Operation, g *group, fields map[string]any, token string) error {
	refuse := func(code, message string) error {
		return awsError{op: op, kind: kindGroup, code: code, message: message}
	}
	all := maps.Clone(g.fields)
	maps.Copy(all, fields)
	userGroups, _ := all["userGroupIDs"].([]any)
	secure := all["transitEncryptionEnabled"] == true
	switch {
	case token != "" && (len(token) < 16 || len(token) > 128):
		return refuse(codeValue, "The AUTH token must have 16 to 128 characters.")
	case (token != "" || len(userGroups) > 0) && !secure:
		return refuse(codeCombination, "Authentication requires encryption in transit.")
	case all["automaticFailoverEnabled"] == true && nodesOf(all) < 2:
		return refuse(codeCombination, "Automatic failover requires a replica.")
	case all["multiAZEnabled"] == true && all["automaticFailoverEnabled"] != true:
		return refuse(codeCombination, "Multi-AZ requires automatic failover.")
	case strings.Contains(stringField(all, "cacheNodeType"), "gd.") != (all["dataTieringEnabled"] == true):
		return refuse(codeCombination, "Data tiering is required for nodes of the family r6gd, and not supported for others.")
	case all["numNodeGroups"] != int64(1):
		return refuse(codeCombination, "Only groups with one shard are simulated.")
	case op == Modify && g.fields["snapshotRetentionLimit"] == int64(0) && all["snapshotRetentionLimit"] != int64(0):
		return refuse(codeCombination, "Must specify both SnapshotRetentionLimit and SnapshottingClusterId to turn on snapshots")
	case op == Modify && g.fields["transitEncryptionEnabled"] != all["transitEncryptionEnabled"]:
		return refuse(codeCombination, "Encryption in transit cannot be changed in one step.")
	case op == Modify && semver.Compare("v"+stringField(all, "engineVersion"), "v"+stringField(g.fields, "engineVersion")) < 0:
		return refuse(codeCombination, "The engine version cannot be downgraded.")
	}
	return s.checkReferences(op, all, userGroups)
}

// checkReferences checks that the resources a group refers to exist in AWS. The caller
// holds the lock.
func (s groupService) checkReferences(op Operation, fields map[string]any, userGroups []any) error {
	missing := func(code string) error {
		return awsError{op: op, kind: kindGroup, code: code, message: "It does not exist."}
	}
	subnets := stringField(fields, "cacheSubnetGroupName")
	if subnets != "" && !slices.Contains(s.options.SubnetGroups, subnets) && s.resource("CacheSubnetGroup", subnets) == nil {
		return missing("CacheSubnetGroupNotFoundFault")
	}
	parameters := stringField(fields, "cacheParameterGroupName")
	if !strings.HasPrefix(parameters, "default.") && s.resource("CacheParameterGroup", parameters) == nil {
		return missing("CacheParameterGroupNotFound")
	}
	for _, id := range userGroups {
		if g := s.resource("UserGroup", fmt.Sprint(id)); g == nil || !g.ready() {
			return missing("UserGroupNotFound")
		}
	}
	return nil
}

func (s groupService) update(ctx context.Context, o *object) (map[string]any, error) {
	g, diff, state := s.diff(o)
	if g == nil {
		return nil, nil
	}
	if state == ack.GroupAvailable && sendsEmptyModify(o.spec()) {
		if err := s.emptyModify(ctx, g.id); err != nil {
			return nil, err
		}
	}
	// ACK compares changed security groups with a copy of themselves: it only sends
	// them, and before anything else, when another field differs too.
	if securityGroups := pick(diff, "securityGroupIDs"); len(diff) == len(securityGroups) {
		return nil, nil
	}
	if tags := pick(diff, "tags"); len(tags) > 0 {
		return nil, s.tag(g, tags)
	}
	if state != ack.GroupAvailable {
		return nil, requeueError(messageNotModifiable)
	}
	if replicas := pick(diff, "replicasPerNodeGroup"); len(replicas) > 0 {
		return s.scale(ctx, g, replicas)
	}
	if first := pick(diff, "securityGroupIDs", "engineVersion"); len(first) > 0 {
		// The other changes are overwritten, as they are for replicas.
		maps.Copy(first, pick(diff, "cacheParameterGroupName"))
		return s.modify(ctx, g, first, "", true)
	}
	token, err := o.secret(ctx, o.spec()["authToken"])
	if err != nil {
		return nil, err
	}
	return s.modify(ctx, g, diff, token, false)
}

// sendsEmptyModify reports whether ACK calls Modify without any change for a spec.
func sendsEmptyModify(spec map[string]any) bool {
	return spec["cacheParameterGroupName"] == nil && (spec["engineVersion"] != nil || spec["securityGroupIDs"] != nil)
}

func (s groupService) emptyModify(ctx context.Context, id string) error {
	if err := s.call(ctx, Modify, kindGroup, id); err != nil {
		return err
	}
	if s.options.RejectEmptyModify {
		return awsError{op: Modify, kind: kindGroup, code: codeCombination, message: "No modifications were requested"}
	}
	return nil
}

// diff returns the fields of a spec that differ from AWS. Fields that the spec leaves
// out do not count.
func (s groupService) diff(o *object) (g *group, diff map[string]any, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.findGroup(s.id(o.spec())); g == nil {
		return nil, nil, ""
	}
	diff = pick(o.spec(), comparedFields...)
	maps.DeleteFunc(diff, func(name string, value any) bool { return equalField(name, value, g.fields[name]) })
	return g, diff, g.state()
}

// scale changes the number of replicas. The response of AWS overwrites the spec, so
// that other pending changes are lost.
func (s groupService) scale(ctx context.Context, g *group, replicas map[string]any) (map[string]any, error) {
	if err := s.call(ctx, Modify, kindGroup, g.id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.validate(Modify, g, replicas, ""); err != nil {
		return nil, err
	}
	maps.Copy(g.fields, replicas)
	nodes := nodesOf(g.fields)
	s.startPhase(g, ack.GroupModifying, s.options.ModifyTime, func(ctx context.Context) error { return g.fleet.resize(ctx, nodes) })
	return pick(g.fields, returnedFields...), nil
}

// modify changes fields of a group. A new token becomes the current one and the
// previous one stays valid: the strategy ROTATE of AWS.
func (s groupService) modify(ctx context.Context, g *group, fields map[string]any, token string, slow bool) (map[string]any, error) {
	if err := s.call(ctx, Modify, kindGroup, g.id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fields = maps.Clone(fields)
	delete(fields, "atRestEncryptionEnabled") // AWS ignores it
	if err := s.validate(Modify, g, fields, token); err != nil {
		return nil, err
	}
	maps.Copy(g.fields, fields)
	if token != "" && (len(g.tokens) == 0 || g.tokens[0] != token) {
		g.tokens = append([]string{token}, g.tokens[:min(1, len(g.tokens))]...)
		g.tokenChanged, slow = time.Now(), true
	}
	if slow || len(pick(fields, modifyingFields...)) > 0 {
		users := s.aclUsers(g)
		s.startPhase(g, ack.GroupModifying, s.options.ModifyTime, func(ctx context.Context) error { return g.fleet.setUsers(ctx, users) })
	}
	return pick(g.fields, returnedFields...), nil
}

// tag changes the tags; ACK waits for that.
func (s groupService) tag(g *group, tags map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(g.fields, tags)
	return requeueError(messageTagsUpdating)
}

func (s groupService) delete(ctx context.Context, id string) error {
	if err := s.call(ctx, Delete, kindGroup, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.findGroup(id)
	if g == nil {
		return nil
	}
	if state := g.state(); state != ack.GroupAvailable && state != ack.GroupCreateFailed {
		return awsError{op: Delete, kind: kindGroup, code: codeState, message: "Replication group " + id + " is " + state + "."}
	}
	s.startPhase(g, ack.GroupDeleting, s.options.DeleteTime, func(context.Context) error {
		g.fleet.stop()
		return nil
	})
	return nil
}

// equalField reports whether two values of a field are equal.
func equalField(name string, a, b any) bool {
	if name == "engineVersion" && a != nil && b != nil { // 7.1 and 7.1.0 are the same
		return semver.Compare(fmt.Sprint("v", a), fmt.Sprint("v", b)) == 0
	}
	return reflect.DeepEqual(a, b)
}
