// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/flagcache/flagcache/controllers/ack"
)

// resource is an AWS resource other than a replication group.
type resource struct {
	spec map[string]any
	// passwords are a user's, as last sent to AWS.
	passwords []string
	// readyAt is when the resource becomes usable.
	readyAt time.Time
	// deletedAt is when AWS has deleted the resource, zero unless it is being deleted.
	deletedAt time.Time
}

func (t *resource) ready() bool { return !time.Now().Before(t.readyAt) }

// aclUser is the Redis ACL user of a User. The signatures with which users of type iam
// authenticate cannot be verified here, so any password is accepted for them.
func (t *resource) aclUser() aclUser {
	return aclUser{stringField(t.spec, "userName"), slices.Concat(passwordRules(t.passwords), strings.Fields(stringField(t.spec, "accessString")), restrictedCommands)}
}

// resource returns the resource with an ID, nil if it does not exist or is being
// deleted. The caller holds the lock.
func (a *account) resource(kind, id string) *resource {
	if t := a.resources[kind][id]; t != nil && t.deletedAt.IsZero() {
		return t
	}
	return nil
}

// resourceService implements service for a kind other than replication groups.
type resourceService struct {
	*account
	kind string
	// idField is the field of the spec that holds the ID.
	idField string
	// arn returns the ARN of a resource.
	arn func(id string) string
	// createTime is the time until a new resource is usable, deleteTime the time that a
	// deletion takes in AWS; ACK does not wait for it.
	createTime, deleteTime time.Duration
	// status returns the state and the status beside the ARN; it may be nil.
	status func(id string, t *resource) (state, stateField string, status map[string]any)
	// validate performs the checks of AWS on a new or changed resource; it may be nil.
	// The lock is held.
	validate func(op Operation, t *resource) error
	// usedBy reports whether a group uses a resource; it may be nil. The lock is held.
	usedBy func(g *group, id string) bool
}

func (s resourceService) id(spec map[string]any) string { return stringField(spec, s.idField) }

func (s resourceService) read(id string) *observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.resources[s.kind][id]
	if t == nil || !t.deletedAt.IsZero() && !time.Now().Before(t.deletedAt) {
		return nil
	}
	latest := &observation{deleting: !t.deletedAt.IsZero(), status: map[string]any{}, returned: pick(t.spec, "authenticationMode")}
	if s.status != nil {
		latest.state, latest.stateField, latest.status = s.status(id, t)
	}
	latest.status["ackResourceMetadata"] = map[string]any{"arn": s.arn(id), "ownerAccountID": accountID, "region": region}
	return latest
}

func (s resourceService) create(ctx context.Context, o *object) error { return s.put(ctx, Create, o) }

func (s resourceService) update(ctx context.Context, o *object) (map[string]any, error) {
	s.mu.Lock()
	t := s.resource(s.kind, s.id(o.spec()))
	equal := t == nil || reflect.DeepEqual(t.spec, o.spec())
	s.mu.Unlock()
	if equal {
		return nil, nil
	}
	if err := s.put(ctx, Modify, o); err != nil {
		return nil, err
	}
	return s.read(s.id(o.spec())).returned, nil
}

// put creates or changes a resource.
func (s resourceService) put(ctx context.Context, op Operation, o *object) error {
	id := s.id(o.spec())
	t := &resource{spec: normalized(o.spec()), readyAt: time.Now().Add(s.createTime)}
	var err error
	if t.passwords, err = userPasswords(ctx, o); err != nil {
		return err
	}
	if err := s.call(ctx, op, s.kind, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.resource(s.kind, id); before != nil {
		t.passwords = before.passwords // ACK only sends them on creation
	}
	if s.validate != nil {
		if err := s.validate(op, t); err != nil {
			return err
		}
	}
	if s.resources[s.kind] == nil {
		s.resources[s.kind] = map[string]*resource{}
	}
	s.resources[s.kind][id] = t
	return s.refreshUsers(ctx)
}

// normalized returns a spec as AWS returns it, with another authentication type for
// users without a password than in the request.
func normalized(spec map[string]any) map[string]any {
	spec = maps.Clone(spec)
	if mode := mapOf(spec["authenticationMode"]); stringField(mode, "type") == authNoPasswordRequired {
		mode = maps.Clone(mode)
		mode["type"] = authNoPassword
		spec["authenticationMode"] = mode
	}
	return spec
}

// refreshUsers updates the ACL users of all groups that have user groups. The caller
// holds the lock.
func (s resourceService) refreshUsers(ctx context.Context) error {
	if s.kind != "User" && s.kind != "UserGroup" {
		return nil
	}
	var errs error
	for _, g := range s.groups {
		if _, ok := g.fields["userGroupIDs"]; ok && g.state() == ack.GroupAvailable {
			errs = errors.Join(errs, g.fleet.setUsers(ctx, s.aclUsers(g)))
		}
	}
	return errs
}

func (s resourceService) delete(ctx context.Context, id string) error {
	if err := s.call(ctx, Delete, s.kind, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		if s.usedBy != nil && s.findGroup(g.id) != nil && s.usedBy(g, id) {
			return awsError{op: Delete, kind: s.kind, code: s.kind + "InUse", message: "It is used by replication group " + g.id + "."}
		}
	}
	if t := s.resource(s.kind, id); t != nil {
		t.deletedAt = time.Now().Add(s.deleteTime)
	}
	return s.refreshUsers(ctx)
}

// userPasswords reads the Secrets that a user's spec refers to.
func userPasswords(ctx context.Context, o *object) ([]string, error) {
	if o.GetKind() != "User" {
		return nil, nil
	}
	refs, _ := o.spec()["passwords"].([]any)
	if mode := mapOf(o.spec()["authenticationMode"]); len(mode) > 0 {
		more, _ := mode["passwords"].([]any)
		refs = slices.Concat(refs, more)
	}
	var passwords []string
	for _, ref := range refs {
		password, err := o.secret(ctx, ref)
		if err != nil {
			return nil, err
		}
		passwords = append(passwords, password)
	}
	return passwords, nil
}

// references returns a usedBy for a field of groups that is an ID or a list of IDs.
func references(field string) func(g *group, id string) bool {
	return func(g *group, id string) bool {
		list, _ := g.fields[field].([]any)
		return g.fields[field] == id || slices.Contains(list, any(id))
	}
}

// stateStatus returns a status function for kinds whose state is creating, then ready.
func stateStatus(field, ready string) func(string, *resource) (string, string, map[string]any) {
	return func(_ string, t *resource) (string, string, map[string]any) {
		state := ready
		if !t.ready() {
			state = ack.GroupCreating
		}
		return state, field, map[string]any{field: state}
	}
}

// services returns the services of all kinds.
func (a *account) services() map[string]service {
	o := a.options
	elasticache := func(resource string) func(string) string { return func(id string) string { return arn(resource, id) } }
	return map[string]service{
		kindGroup: groupService{a},
		"CacheSubnetGroup": resourceService{account: a, kind: "CacheSubnetGroup", idField: "cacheSubnetGroupName",
			arn: elasticache("subnetgroup"), usedBy: references("cacheSubnetGroupName")},
		"CacheParameterGroup": resourceService{account: a, kind: "CacheParameterGroup", idField: "cacheParameterGroupName",
			arn: elasticache("parametergroup"), usedBy: references("cacheParameterGroupName")},
		"User": resourceService{account: a, kind: "User", idField: "userID", arn: elasticache("user"), deleteTime: o.DeleteTime,
			status: stateStatus("status", stateActive), validate: a.validateUser},
		"UserGroup": resourceService{account: a, kind: "UserGroup", idField: "userGroupID", arn: elasticache("usergroup"), createTime: o.CreateTime, deleteTime: o.DeleteTime,
			status: stateStatus("status", stateActive), validate: a.validateUserGroup, usedBy: references("userGroupIDs")},
		"Snapshot": resourceService{account: a, kind: "Snapshot", idField: "snapshotName", arn: elasticache("snapshot"), createTime: o.SnapshotTime,
			status: stateStatus("snapshotStatus", ack.SnapshotAvailable), validate: a.validateSnapshot},
		"SecurityGroup": resourceService{account: a, kind: "SecurityGroup", idField: "name", createTime: o.Poll,
			arn: func(id string) string {
				return fmt.Sprintf("arn:aws:ec2:%s:%s:security-group/%s", region, accountID, securityGroupID(id))
			},
			status: func(id string, t *resource) (string, string, map[string]any) {
				if !t.ready() {
					return ack.GroupCreating, "", map[string]any{}
				}
				return "", "", map[string]any{"id": securityGroupID(id)}
			},
			usedBy: func(g *group, id string) bool { return references("securityGroupIDs")(g, securityGroupID(id)) }},
		"MetricAlarm": resourceService{account: a, kind: "MetricAlarm", idField: "name", arn: func(id string) string {
			return fmt.Sprintf("arn:aws:cloudwatch:%s:%s:alarm:%s", region, accountID, id)
		}},
	}
}
