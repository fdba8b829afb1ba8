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

	"github.com/flagcache/flagcache/test/awsplayer/fleet"
)

// statusActive is the status of a user or a user group that can be used.
const statusActive = "active"

// user is a user of Redis.
type user struct {
	id, name, engine, access string
	authentication           types.AuthenticationType
	passwords                []string
	// activeAt is when the last change is done.
	activeAt time.Time
	// deletedAt is when AWS has deleted the user, zero unless it is being deleted.
	deletedAt time.Time
}

func (u *user) status() string {
	switch {
	case !u.deletedAt.IsZero():
		return statusDeleting
	case time.Now().Before(u.activeAt):
		return statusModifying
	}
	return statusActive
}

// fleetUser is the user of the servers. The signatures with which users of type iam
// authenticate cannot be verified, so any password is accepted for them.
func (u *user) fleetUser() fleet.User {
	return fleet.User{Name: u.name, Rules: slices.Concat(passwordRules(u.passwords), strings.Fields(u.access), restrictedCommands)}
}

// credentials are the parameters of a request on how a user authenticates.
type credentials struct {
	mode       *types.AuthenticationMode
	passwords  []string
	noPassword *bool
}

// given reports whether a request has any of the parameters.
func (c credentials) given() bool { return c.mode != nil || c.passwords != nil || c.noPassword != nil }

// set changes how a user authenticates.
func (c credentials) set(u *user) error {
	mode, passwords := types.InputAuthenticationTypePassword, c.passwords
	switch {
	case c.mode != nil && (c.passwords != nil || c.noPassword != nil):
		return invalidCombination("AuthenticationMode excludes Passwords and NoPasswordRequired.")
	case c.mode != nil:
		mode, passwords = c.mode.Type, c.mode.Passwords
	case aws.ToBool(c.noPassword):
		mode = types.InputAuthenticationTypeNoPassword
	}
	for _, password := range passwords {
		if len(password) < 16 || len(password) > 128 {
			return invalidValue("A password must have 16 to 128 characters.")
		}
	}
	switch {
	case !slices.Contains(mode.Values(), mode):
		return invalidValue("The authentication type %s is none of %v.", mode, mode.Values())
	case mode == types.InputAuthenticationTypePassword && (len(passwords) == 0 || len(passwords) > 2):
		return invalidValue("A user must have one or two passwords.")
	case mode != types.InputAuthenticationTypePassword && len(passwords) > 0:
		return invalidCombination("A user of type %s must not have a password.", mode)
	case mode == types.InputAuthenticationTypeIam && u.id != u.name:
		return invalidValue("The ID and the name of a user of type iam must be the same.")
	}
	u.passwords = passwords
	u.authentication = map[types.InputAuthenticationType]types.AuthenticationType{
		types.InputAuthenticationTypePassword:   types.AuthenticationTypePassword,
		types.InputAuthenticationTypeNoPassword: types.AuthenticationTypeNoPassword,
		types.InputAuthenticationTypeIam:        types.AuthenticationTypeIam,
	}[mode]
	return nil
}

// expandedAccess is an access string as AWS returns it: with the rules that are implied.
func expandedAccess(access string) string {
	var rules []string
	commands, channels := false, strings.Contains(access, "&") || strings.Contains(access, "allchannels")
	for _, rule := range strings.Fields(access) {
		isCommand := strings.HasPrefix(rule, "+") || strings.HasPrefix(rule, "-") || rule == "allcommands" || rule == "nocommands"
		if isCommand && !commands {
			commands = true
			if !channels && !strings.Contains(access, "resetchannels") {
				rules = append(rules, "resetchannels")
			}
			if rule != "-@all" && rule != "+@all" && rule != "allcommands" {
				rules = append(rules, "-@all")
			}
		}
		rules = append(rules, rule)
	}
	return strings.Join(rules, " ")
}

func validateAccess(access string) error {
	rules := strings.Fields(access)
	if len(rules) == 0 || rules[0] != "on" && rules[0] != "off" {
		return invalidValue("The access string must start with on or off.")
	}
	for _, rule := range rules {
		if strings.HasPrefix(rule, ">") || strings.HasPrefix(rule, "#") || rule == "nopass" {
			return invalidValue("The access string must not have passwords.")
		}
	}
	return nil
}

func createUser(a *account, in *elasticache.CreateUserInput) (*types.User, error) {
	u := &user{id: strings.ToLower(aws.ToString(in.UserId)), name: aws.ToString(in.UserName), engine: strings.ToLower(aws.ToString(in.Engine)), access: expandedAccess(aws.ToString(in.AccessString))}
	switch {
	case !groupID.MatchString(u.id):
		return nil, invalidValue("The user ID is not a valid identifier.")
	case u.name == "" || len(u.name) > 120 || strings.ContainsAny(u.name, " \t\n"):
		return nil, invalidValue("The user name is not valid.")
	case u.engine != "redis" && u.engine != "valkey":
		return nil, invalidValue("Engine %s is unknown.", u.engine)
	case a.users[u.id] != nil:
		return nil, &types.UserAlreadyExistsFault{Message: text("User %s already exists.", u.id)}
	}
	if err := validateAccess(u.access); err != nil {
		return nil, err
	}
	if err := (credentials{in.AuthenticationMode, in.Passwords, in.NoPasswordRequired}).set(u); err != nil {
		return nil, err
	}
	a.users[u.id], a.tags[a.arn("user", u.id)] = u, in.Tags
	return a.describeUser(u), nil
}

// describeUser describes a user as AWS does. The caller holds the lock.
func (a *account) describeUser(u *user) *types.User {
	d := &types.User{
		ARN: aws.String(a.arn("user", u.id)), AccessString: aws.String(u.access), Authentication: &types.Authentication{Type: u.authentication},
		Engine: aws.String(u.engine), MinimumEngineVersion: aws.String("6.0"), Status: aws.String(u.status()), UserGroupIds: []string{},
		UserId: aws.String(u.id), UserName: aws.String(u.name),
	}
	for _, id := range sortedKeys(a.userGroups) {
		if slices.Contains(a.userGroups[id].target(), u.id) {
			d.UserGroupIds = append(d.UserGroupIds, id)
		}
	}
	if len(u.passwords) > 0 {
		d.Authentication.PasswordCount = aws.Int32(int32(len(u.passwords)))
	}
	return d
}

// findUser returns the user with an ID. The caller holds the lock.
func (a *account) findUser(id *string) (*user, error) {
	if u := a.users[strings.ToLower(aws.ToString(id))]; u != nil {
		return u, nil
	}
	return nil, &types.UserNotFoundFault{Message: text("User %s not found.", aws.ToString(id))}
}

func describeUsers(a *account, in *elasticache.DescribeUsersInput) (*elasticache.DescribeUsersOutput, error) {
	out := &elasticache.DescribeUsersOutput{Users: []types.User{}}
	ids := sortedKeys(a.users)
	if in.UserId != nil {
		u, err := a.findUser(in.UserId)
		if err != nil {
			return nil, err
		}
		ids = []string{u.id}
	}
	for _, id := range ids {
		out.Users = append(out.Users, *a.describeUser(a.users[id]))
	}
	return out, nil
}

// changeable returns the user with an ID if it can be changed. The caller holds the lock.
func (a *account) changeable(id *string) (*user, error) {
	u, err := a.findUser(id)
	switch {
	case err != nil:
		return nil, err
	case u.id == "default":
		return nil, invalidValue("The user default cannot be changed.")
	case u.status() != statusActive:
		return nil, &types.InvalidUserStateFault{Message: text("User %s is %s.", u.id, u.status())}
	}
	return u, nil
}

func modifyUser(a *account, in *elasticache.ModifyUserInput) (*types.User, error) {
	u, err := a.changeable(in.UserId)
	if err != nil {
		return nil, err
	}
	changed := *u
	if in.AccessString != nil && in.AppendAccessString != nil {
		return nil, invalidCombination("AccessString and AppendAccessString exclude each other.")
	}
	set(&changed.access, in.AccessString)
	changed.access = expandedAccess(strings.TrimSpace(changed.access + " " + aws.ToString(in.AppendAccessString)))
	if in.Engine != nil && !strings.EqualFold(*in.Engine, u.engine) {
		changed.engine = strings.ToLower(*in.Engine)
		if changed.engine != "valkey" {
			return nil, invalidValue("The engine of a user cannot be changed to %s.", changed.engine)
		}
	}
	if err := validateAccess(changed.access); err != nil {
		return nil, err
	}
	if c := (credentials{in.AuthenticationMode, in.Passwords, in.NoPasswordRequired}); c.given() {
		if err := c.set(&changed); err != nil {
			return nil, err
		}
	}
	changed.activeAt = time.Now().Add(a.options.ModifyTime)
	*u = changed
	a.refreshUsers()
	return a.describeUser(u), nil
}

// deleteUser also removes the user from all user groups.
func deleteUser(a *account, in *elasticache.DeleteUserInput) (*types.User, error) {
	u, err := a.changeable(in.UserId)
	if err != nil {
		return nil, err
	}
	u.deletedAt = time.Now().Add(a.options.DeleteTime)
	for _, g := range a.userGroups {
		g.members = without(g.members, []string{u.id})
		g.adding = without(g.adding, []string{u.id})
		g.removing = without(g.removing, []string{u.id})
	}
	a.refreshUsers()
	return a.describeUser(u), nil
}
