// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// userGroup is a set of users, which replication groups refer to.
type userGroup struct {
	id, engine string
	members    []string
	// adding and removing are the changes that are being made.
	adding, removing []string
	created          bool
	// activeAt is when the last change is done.
	activeAt time.Time
	// deletedAt is when AWS has deleted the group, zero unless it is being deleted.
	deletedAt time.Time
}

func (g *userGroup) status() string {
	switch {
	case !g.deletedAt.IsZero():
		return statusDeleting
	case !time.Now().Before(g.activeAt):
		return statusActive
	case g.created:
		return statusModifying
	}
	return statusCreating
}

// target are the members after the changes that are being made. The servers have them
// from the start.
func (g *userGroup) target() []string { return slices.Concat(without(g.members, g.removing), g.adding) }

// settle ends the changes whose time has come.
func (g *userGroup) settle(now time.Time) {
	if !now.Before(g.activeAt) {
		g.members, g.adding, g.removing, g.created = g.target(), nil, nil, true
	}
}

// validateMembers performs the checks of AWS on the members of a user group. The caller holds
// the lock.
func validateMembers(a *account, g *userGroup, members []string) error {
	names := map[string]bool{}
	for _, id := range members {
		u, err := a.findUser(&id)
		if err != nil {
			return err
		}
		if !u.deletedAt.IsZero() {
			return &types.UserNotFoundFault{Message: text("User %s not found.", id)}
		}
		if names[u.name] {
			return &types.DuplicateUserNameFault{Message: text("Two users are named %s.", u.name)}
		}
		names[u.name] = true
		if g.engine == "redis" && u.engine != "redis" {
			return invalidCombination("The engine of user %s is %s, and that of the user group redis.", id, u.engine)
		}
	}
	if g.engine == "redis" && !names["default"] {
		return &types.DefaultUserRequired{Message: text("A user group for Redis requires a user named default.")}
	}
	return nil
}

func createUserGroup(a *account, in *elasticache.CreateUserGroupInput) (*types.UserGroup, error) {
	g := &userGroup{id: strings.ToLower(aws.ToString(in.UserGroupId)), engine: strings.ToLower(aws.ToString(in.Engine)), members: in.UserIds, activeAt: time.Now().Add(a.options.CreateTime)}
	switch {
	case !groupID.MatchString(g.id):
		return nil, invalidValue("The user group ID is not a valid identifier.")
	case g.engine != "redis" && g.engine != "valkey":
		return nil, invalidValue("Engine %s is unknown.", g.engine)
	case a.userGroups[g.id] != nil:
		return nil, &types.UserGroupAlreadyExistsFault{Message: text("User group %s already exists.", g.id)}
	}
	if err := validateMembers(a, g, g.members); err != nil {
		return nil, err
	}
	a.userGroups[g.id], a.tags[a.arn("usergroup", g.id)] = g, in.Tags
	return a.describeUserGroup(g), nil
}

// describeUserGroup describes a user group as AWS does. The caller holds the lock.
func (a *account) describeUserGroup(g *userGroup) *types.UserGroup {
	d := &types.UserGroup{
		ARN: aws.String(a.arn("usergroup", g.id)), Engine: aws.String(g.engine), MinimumEngineVersion: aws.String("6.0"),
		Status: aws.String(g.status()), UserGroupId: aws.String(g.id), UserIds: slices.Clone(g.members), ReplicationGroups: a.usersOfUserGroup(g.id),
	}
	if len(g.adding) > 0 || len(g.removing) > 0 {
		d.PendingChanges = &types.UserGroupPendingChanges{UserIdsToAdd: g.adding, UserIdsToRemove: g.removing}
	}
	return d
}

// usersOfUserGroup are the IDs of the replication groups with a user group. The caller
// holds the lock.
func (a *account) usersOfUserGroup(id string) []string {
	ids := []string{}
	for _, g := range a.groups {
		if slices.Contains(g.next.userGroups, id) || slices.Contains(g.current.userGroups, id) {
			ids = append(ids, g.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// findUserGroup returns the user group with an ID. The caller holds the lock.
func (a *account) findUserGroup(id *string) (*userGroup, error) {
	if g := a.userGroups[strings.ToLower(aws.ToString(id))]; g != nil {
		return g, nil
	}
	return nil, &types.UserGroupNotFoundFault{Message: text("User group %s not found.", aws.ToString(id))}
}

func describeUserGroups(a *account, in *elasticache.DescribeUserGroupsInput) (*elasticache.DescribeUserGroupsOutput, error) {
	out := &elasticache.DescribeUserGroupsOutput{UserGroups: []types.UserGroup{}}
	ids := sortedKeys(a.userGroups)
	if in.UserGroupId != nil {
		g, err := a.findUserGroup(in.UserGroupId)
		if err != nil {
			return nil, err
		}
		ids = []string{g.id}
	}
	for _, id := range ids {
		out.UserGroups = append(out.UserGroups, *a.describeUserGroup(a.userGroups[id]))
	}
	return out, nil
}

func modifyUserGroup(a *account, in *elasticache.ModifyUserGroupInput) (*types.UserGroup, error) {
	g, err := a.findUserGroup(in.UserGroupId)
	if err != nil {
		return nil, err
	}
	if g.status() != statusActive {
		return nil, &types.InvalidUserGroupStateFault{Message: text("User group %s is %s.", g.id, g.status())}
	}
	changed := *g
	if in.Engine != nil && !strings.EqualFold(*in.Engine, g.engine) {
		if changed.engine = strings.ToLower(*in.Engine); changed.engine != "valkey" {
			return nil, invalidValue("The engine of a user group cannot be changed to %s.", changed.engine)
		}
	}
	changed.adding, changed.removing = without(in.UserIdsToAdd, g.members), in.UserIdsToRemove
	if missing := without(in.UserIdsToRemove, g.members); len(missing) > 0 {
		return nil, invalidValue("User %s is not a member of the user group.", missing[0])
	}
	if err := validateMembers(a, &changed, changed.target()); err != nil {
		return nil, err
	}
	changed.activeAt = time.Now().Add(a.options.ModifyTime)
	*g = changed
	a.refreshUsers()
	return a.describeUserGroup(g), nil
}

func deleteUserGroup(a *account, in *elasticache.DeleteUserGroupInput) (*types.UserGroup, error) {
	g, err := a.findUserGroup(in.UserGroupId)
	if err != nil {
		return nil, err
	}
	if groups := a.usersOfUserGroup(g.id); len(groups) > 0 {
		return nil, &types.InvalidUserGroupStateFault{Message: text("User group %s is associated with replication group %s.", g.id, groups[0])}
	}
	if g.status() != statusActive {
		return nil, &types.InvalidUserGroupStateFault{Message: text("User group %s is %s.", g.id, g.status())}
	}
	g.deletedAt = time.Now().Add(a.options.DeleteTime)
	return a.describeUserGroup(g), nil
}
