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

// thing is anything in AWS that is no replication group.
type thing struct {
	spec map[string]any
	// passwords of a user, as they were when AWS was last told.
	passwords []string
	// readyAt is when it can be used.
	readyAt time.Time
	// goneAt is when AWS has deleted it, zero for what is to stay.
	goneAt time.Time
}

func (t *thing) ready() bool { return !time.Now().Before(t.readyAt) }

// login is a user's in Redis. Nobody here can check the signature that a user of
// type iam logs in with, so any password does.
func (t *thing) login() login {
	return login{text(t.spec, "userName"), slices.Concat(passwords(t.passwords), strings.Fields(text(t.spec, "accessString")), withheld)}
}

// thing is the one with an ID, nil where there is none or it is being deleted; the
// lock is held.
func (a *account) thing(kind, id string) *thing {
	if t := a.things[kind][id]; t != nil && t.goneAt.IsZero() {
		return t
	}
	return nil
}

// things is the service of a kind that is no replication group.
type things struct {
	*account
	kind string
	// idField is the spec's field that is the ID in AWS.
	idField string
	// arn is what AWS calls a thing.
	arn func(id string) string
	// takes is how long a new thing takes until it can be used, lingers how long an
	// old one stays in AWS, for which ACK does not wait.
	takes, lingers time.Duration
	// status is what AWS says beside the ARN, and how it is. Default: nothing.
	status func(id string, t *thing) (state, stateField string, status map[string]any)
	// permit is what AWS checks of a new or a changed one; the lock is held.
	permit func(op Operation, t *thing) error
	// used names the group that uses a thing; the lock is held.
	used func(g *group, id string) bool
}

func (s things) id(spec map[string]any) string { return text(spec, s.idField) }

func (s things) read(id string) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.things[s.kind][id]
	if t == nil || !t.goneAt.IsZero() && !time.Now().Before(t.goneAt) {
		return nil
	}
	said := &answer{leaving: !t.goneAt.IsZero(), status: map[string]any{}, mentioned: pick(t.spec, "authenticationMode")}
	if s.status != nil {
		said.state, said.stateField, said.status = s.status(id, t)
	}
	said.status["ackResourceMetadata"] = map[string]any{"arn": s.arn(id), "ownerAccountID": accountID, "region": region}
	return said
}

func (s things) create(ctx context.Context, o *object) error { return s.put(ctx, Create, o) }

func (s things) update(ctx context.Context, o *object) (map[string]any, error) {
	s.mu.Lock()
	t := s.thing(s.kind, s.id(o.spec()))
	equal := t == nil || reflect.DeepEqual(t.spec, o.spec())
	s.mu.Unlock()
	if equal {
		return nil, nil
	}
	if err := s.put(ctx, Modify, o); err != nil {
		return nil, err
	}
	return s.read(s.id(o.spec())).mentioned, nil
}

// put makes a thing or changes it.
func (s things) put(ctx context.Context, op Operation, o *object) error {
	id := s.id(o.spec())
	t := &thing{spec: answered(o.spec()), readyAt: time.Now().Add(s.takes)}
	var err error
	if t.passwords, err = userPasswords(ctx, o); err != nil {
		return err
	}
	if err := s.call(ctx, op, s.kind, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.thing(s.kind, id); before != nil {
		t.passwords = before.passwords // ACK sends them with a creation alone
	}
	if s.permit != nil {
		if err := s.permit(op, t); err != nil {
			return err
		}
	}
	if s.things[s.kind] == nil {
		s.things[s.kind] = map[string]*thing{}
	}
	s.things[s.kind][id] = t
	return s.readmit(ctx)
}

// answered is a spec in AWS' words, which has others for a user without a password
// than it is asked with.
func answered(spec map[string]any) map[string]any {
	spec = maps.Clone(spec)
	if mode := mapOf(spec["authenticationMode"]); text(mode, "type") == modeOpen {
		mode = maps.Clone(mode)
		mode["type"] = modeAnswered
		spec["authenticationMode"] = mode
	}
	return spec
}

// readmit lets users into the groups that they may log in to now; the lock is
// held.
func (s things) readmit(ctx context.Context) error {
	if s.kind != "User" && s.kind != "UserGroup" {
		return nil
	}
	var errs error
	for _, g := range s.groups {
		if _, ok := g.fields["userGroupIDs"]; ok && g.state() == ack.GroupAvailable {
			errs = errors.Join(errs, g.fleet.admit(ctx, s.loginsOf(g)))
		}
	}
	return errs
}

func (s things) delete(ctx context.Context, id string) error {
	if err := s.call(ctx, Delete, s.kind, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		if s.used != nil && s.groupOf(g.id) != nil && s.used(g, id) {
			return fault{op: Delete, kind: s.kind, code: s.kind + "InUse", message: "It is used by replication group " + g.id + "."}
		}
	}
	if t := s.thing(s.kind, id); t != nil {
		t.goneAt = time.Now().Add(s.lingers)
	}
	return s.readmit(ctx)
}

// userPasswords reads the Secrets that a user's spec names.
func userPasswords(ctx context.Context, o *object) ([]string, error) {
	if o.GetKind() != "User" {
		return nil, nil
	}
	refs, _ := o.spec()["passwords"].([]any)
	if mode := mapOf(o.spec()["authenticationMode"]); len(mode) > 0 {
		more, _ := mode["passwords"].([]any)
		refs = slices.Concat(refs, more)
	}
	var words []string
	for _, ref := range refs {
		word, err := o.secret(ctx, ref)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, nil
}

// names tells whether a field of a group's is an ID, or a list with it.
func names(field string) func(g *group, id string) bool {
	return func(g *group, id string) bool {
		list, _ := g.fields[field].([]any)
		return g.fields[field] == id || slices.Contains(list, any(id))
	}
}

// states makes a status of a word that tells new things from ready ones.
func states(field, ready string) func(string, *thing) (string, string, map[string]any) {
	return func(_ string, t *thing) (string, string, map[string]any) {
		state := ready
		if !t.ready() {
			state = ack.GroupCreating
		}
		return state, field, map[string]any{field: state}
	}
}

// services are those of all kinds.
func (a *account) services() map[string]service {
	o := a.options
	elasticache := func(resource string) func(string) string { return func(id string) string { return arn(resource, id) } }
	return map[string]service{
		kindGroup: groups{a},
		"CacheSubnetGroup": things{account: a, kind: "CacheSubnetGroup", idField: "cacheSubnetGroupName",
			arn: elasticache("subnetgroup"), used: names("cacheSubnetGroupName")},
		"CacheParameterGroup": things{account: a, kind: "CacheParameterGroup", idField: "cacheParameterGroupName",
			arn: elasticache("parametergroup"), used: names("cacheParameterGroupName")},
		"User": things{account: a, kind: "User", idField: "userID", arn: elasticache("user"), lingers: o.DeleteTime,
			status: states("status", stateActive), permit: a.permitUser},
		"UserGroup": things{account: a, kind: "UserGroup", idField: "userGroupID", arn: elasticache("usergroup"), takes: o.CreateTime, lingers: o.DeleteTime,
			status: states("status", stateActive), permit: a.permitUserGroup, used: names("userGroupIDs")},
		"Snapshot": things{account: a, kind: "Snapshot", idField: "snapshotName", arn: elasticache("snapshot"), takes: o.SnapshotTime,
			status: states("snapshotStatus", ack.SnapshotAvailable), permit: a.permitSnapshot},
		"SecurityGroup": things{account: a, kind: "SecurityGroup", idField: "name", takes: o.Poll,
			arn: func(id string) string {
				return fmt.Sprintf("arn:aws:ec2:%s:%s:security-group/%s", region, accountID, securityGroupID(id))
			},
			status: func(id string, t *thing) (string, string, map[string]any) {
				if !t.ready() {
					return ack.GroupCreating, "", map[string]any{}
				}
				return "", "", map[string]any{"id": securityGroupID(id)}
			},
			used: func(g *group, id string) bool { return names("securityGroupIDs")(g, securityGroupID(id)) }},
		"MetricAlarm": things{account: a, kind: "MetricAlarm", idField: "name", arn: func(id string) string {
			return fmt.Sprintf("arn:aws:cloudwatch:%s:%s:alarm:%s", region, accountID, id)
		}},
	}
}
