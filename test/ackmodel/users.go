// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elasticache "github.com/aws-controllers-k8s/elasticache-controller/apis/v1alpha1"

	"github.com/flagcache/flagcache/controllers/ack"
)

// User is a user in AWS.
type User struct {
	Spec ack.UserSpec
	// Passwords are at most two.
	Passwords []string
	// ActiveAt is when the last change is done.
	ActiveAt time.Time
}

// UserGroup is a user group in AWS.
type UserGroup struct {
	Spec  ack.UserGroupSpec
	State string
	// Done is when the current operation is over.
	Done time.Time
}

// minimumEngineVersion is that of users and user groups.
const minimumEngineVersion = "6.0"

type userManager struct{}

func (userManager) terminal() []string {
	return []string{"UserAlreadyExists", "UserQuotaExceeded", "DuplicateUserName", "InvalidParameterValue", "InvalidParameterCombination", "InvalidUserState"}
}

func (userManager) find(s *session, o client.Object) (client.Object, error) {
	latest := o.(*ack.User)
	var u User
	err := s.call("DescribeUsers", "", func() error {
		var ok bool
		if u, ok = s.Users[*latest.Spec.UserID]; !ok {
			return errNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.describeUser(latest, u)
	return latest, nil
}

// describeUser writes what AWS returns about a user into an object.
func (s *session) describeUser(o *ack.User, u User) {
	setMetadata(o, arn("user", *u.Spec.UserID))
	o.Spec.UserID, o.Spec.UserName, o.Spec.Engine, o.Spec.AccessString = u.Spec.UserID, u.Spec.UserName, u.Spec.Engine, u.Spec.AccessString
	kind := authenticationOf(u)
	o.Status.Authentication = &elasticache.Authentication{Type: &kind}
	if n := len(u.Passwords); n > 0 {
		o.Status.Authentication.PasswordCount = ptr.To(int64(n))
	}
	if o.Spec.AuthenticationMode != nil {
		o.Spec.AuthenticationMode.Type = &kind
	}
	state, synced := ack.UserActive, corev1.ConditionTrue
	if s.now.Before(u.ActiveAt) {
		state, synced = ack.GroupModifying, corev1.ConditionFalse
	}
	o.Status.Status, o.Status.MinimumEngineVersion = &state, ptr.To(minimumEngineVersion)
	o.Status.UserGroupIDs = []*string{}
	for id, group := range s.UserGroups {
		if setOf(group.Spec.UserIDs)[*u.Spec.UserID] {
			o.Status.UserGroupIDs = append(o.Status.UserGroupIDs, ptr.To(id))
		}
	}
	slices.SortFunc(o.Status.UserGroupIDs, func(a, b *string) int { return strings.Compare(*a, *b) })
	setStatus(o, ack.ConditionSynced, synced)
}

func authenticationOf(u User) string {
	switch {
	case u.Spec.AuthenticationMode != nil:
		return *u.Spec.AuthenticationMode.Type
	case len(u.Passwords) > 0:
		return "password"
	}
	return "no-password"
}

// passwordsOf returns the passwords in the Secrets of a user.
func (s *session) passwordsOf(u *ack.User) ([]string, error) {
	keys := u.Spec.Passwords
	if mode := u.Spec.AuthenticationMode; mode != nil {
		keys = append(slices.Clip(mode.Passwords), keys...)
	}
	var passwords []string
	for _, key := range keys {
		password, err := s.secrets.Secret(key)
		if err != nil {
			return nil, requeueError{cause: err}
		}
		passwords = append(passwords, password)
	}
	return passwords, nil
}

func (m userManager) create(s *session, o client.Object) (client.Object, error) {
	created := o.(*ack.User)
	passwords, err := s.passwordsOf(created)
	if err != nil {
		return nil, err
	}
	id, requested := strings.ToLower(*created.Spec.UserID), *created.Spec.AccessString
	u := User{Spec: *created.Spec.DeepCopy(), Passwords: passwords}
	u.Spec.UserID, u.Spec.AccessString = &id, ptr.To(expandedAccess(requested))
	if err := s.call("CreateUser", id, func() error { s.Users[id] = u; return nil }); err != nil {
		return nil, err
	}
	s.describeUser(created, u)
	created.Status.LastRequestedAccessString, created.Status.ExpandedAccessString = &requested, u.Spec.AccessString
	return created, nil
}

// expandedAccess returns an access string as AWS does: with the rules that are implied.
func expandedAccess(access string) string {
	var rules []string
	commands, channels := false, strings.Contains(access, "&") || strings.Contains(access, "channels")
	for _, rule := range strings.Fields(access) {
		if !commands && (strings.HasPrefix(rule, "+") || strings.HasPrefix(rule, "-")) {
			commands = true
			if !channels {
				rules = append(rules, "resetchannels")
			}
			if rule != "-@all" && rule != "+@all" {
				rules = append(rules, "-@all")
			}
		}
		rules = append(rules, rule)
	}
	return strings.Join(rules, " ")
}

func (m userManager) update(s *session, desired, latest client.Object, differing fields) (client.Object, error) {
	d, l := desired.(*ack.User), latest.(*ack.User)
	if ack.Value(l.Status.Status) != ack.UserActive {
		return nil, s.wait("User cannot be modified as its status is not 'active'.")
	}
	passwords, err := s.passwordsOf(d)
	if err != nil {
		return nil, err
	}
	id, requested := *d.Spec.UserID, *d.Spec.AccessString
	u := s.Users[id]
	u.ActiveAt = s.now.Add(s.Timing.Operation)
	u.Spec = *u.Spec.DeepCopy()
	if d.Spec.AuthenticationMode != nil {
		u.Spec.AuthenticationMode, u.Passwords = d.Spec.AuthenticationMode.DeepCopy(), passwords
	}
	if differing["AccessString"] {
		u.Spec.AccessString = ptr.To(expandedAccess(requested))
	}
	if err := s.call("ModifyUser", id, func() error { s.Users[id] = u; return nil }); err != nil {
		return nil, err
	}
	s.describeUser(d, u)
	d.Status.LastRequestedAccessString, d.Status.ExpandedAccessString = &requested, u.Spec.AccessString
	return d, nil
}

func (userManager) remove(s *session, o client.Object) (client.Object, error) {
	id := *o.(*ack.User).Spec.UserID
	return nil, s.call("DeleteUser", id, func() error { delete(s.Users, id); return nil })
}

func (userManager) compare(a, b client.Object) fields {
	desired := a.(*ack.User)
	differing := compareSpecs(a, b, "AuthenticationMode", "Passwords")
	if kind, other := typeOf(a), typeOf(b); kind != other {
		differing["AuthenticationMode"] = true
	}
	if ack.Value(desired.Spec.AccessString) == ack.Value(desired.Status.LastRequestedAccessString) {
		delete(differing, "AccessString")
	}
	return differing
}

func typeOf(o client.Object) string {
	if mode := o.(*ack.User).Spec.AuthenticationMode; mode != nil {
		return ack.Value(mode.Type)
	}
	return ""
}

type userGroupManager struct{}

func (userGroupManager) terminal() []string {
	return []string{
		"DuplicateUserNameFault", "UserGroupAlreadyExistsFault", "InvalidParameterCombination", "InvalidParameterValueException", "DefaultUserRequired",
		"UserGroupQuotaExceededFault", "TagQuotaPerResourceExceeded",
	}
}

func (userGroupManager) synced(o client.Object) bool {
	return ack.Value(o.(*ack.UserGroup).Status.Status) == ack.UserActive
}

func (userGroupManager) find(s *session, o client.Object) (client.Object, error) {
	latest := o.(*ack.UserGroup)
	var g UserGroup
	err := s.call("DescribeUserGroups", "", func() error {
		var ok bool
		if g, ok = s.UserGroups[*latest.Spec.UserGroupID]; !ok {
			return errNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.describeUserGroup(latest, g)
	return latest, nil
}

func (s *session) describeUserGroup(o *ack.UserGroup, g UserGroup) {
	setMetadata(o, arn("usergroup", *g.Spec.UserGroupID))
	spec := g.Spec.DeepCopy()
	o.Spec.UserGroupID, o.Spec.Engine, o.Spec.UserIDs = spec.UserGroupID, spec.Engine, spec.UserIDs
	o.Status.Status, o.Status.MinimumEngineVersion = ptr.To(g.State), ptr.To(minimumEngineVersion)
	o.Status.ReplicationGroups = ack.Pointers(s.groupsOf(*spec.UserGroupID)...)
}

// groupsOf returns the IDs of the groups with a user group.
func (a *Account) groupsOf(userGroup string) []string {
	ids := []string{}
	for id, g := range a.Groups {
		if setOf(g.Spec.UserGroupIDs)[userGroup] || setOf(g.Pending.UserGroupIDs)[userGroup] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m userGroupManager) create(s *session, o client.Object) (client.Object, error) {
	const action = "CreateUserGroup"
	created := o.(*ack.UserGroup)
	id := strings.ToLower(*created.Spec.UserGroupID)
	err := s.call(action, id, func() error {
		for _, user := range created.Spec.UserIDs {
			if _, ok := s.Users[*user]; !ok {
				return Error{action, "UserNotFound", fmt.Sprintf("User %s not found.", *user)}
			}
		}
		s.UserGroups[id] = UserGroup{Spec: *created.Spec.DeepCopy(), State: ack.GroupCreating, Done: s.now.Add(s.Timing.Operation)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.describeUserGroup(created, s.UserGroups[id])
	return created, nil
}

func (m userGroupManager) update(s *session, desired, latest client.Object, _ fields) (client.Object, error) {
	d := desired.(*ack.UserGroup)
	if state := ack.Value(latest.(*ack.UserGroup).Status.Status); state != ack.UserActive {
		return nil, s.wait(fmt.Sprintf("User group in '%s' state, cannot be modified until 'active'.", state))
	}
	id := *d.Spec.UserGroupID
	g := s.UserGroups[id]
	g.Spec, g.State, g.Done = *d.Spec.DeepCopy(), ack.GroupModifying, s.now.Add(s.Timing.Operation)
	if err := s.call("ModifyUserGroup", id, func() error { s.UserGroups[id] = g; return nil }); err != nil {
		return nil, err
	}
	s.describeUserGroup(d, g)
	return d, nil
}

func (userGroupManager) remove(s *session, o client.Object) (client.Object, error) {
	const action = "DeleteUserGroup"
	id := *o.(*ack.UserGroup).Spec.UserGroupID
	return nil, s.call(action, id, func() error {
		if groups := s.groupsOf(id); len(groups) > 0 {
			return Error{action, "InvalidUserGroupState", fmt.Sprintf("User group %s is associated with replication group %s.", id, groups[0])}
		}
		if state := s.UserGroups[id].State; state != ack.UserActive {
			return Error{action, "InvalidUserGroupState", fmt.Sprintf("User group %s is %s.", id, state)}
		}
		delete(s.UserGroups, id)
		return nil
	})
}

func (userGroupManager) compare(a, b client.Object) fields { return compareSpecs(a, b) }
