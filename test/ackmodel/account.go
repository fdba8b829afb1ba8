// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Identity of the account.
const (
	AccountID = "123456789012"
	Region    = "us-east-1"
	// otherAccountID is the account of namespaces whose role is missing.
	otherAccountID = "210987654321"
)

// Account is the state of an AWS account. The values of its maps are never modified in place.
type Account struct {
	Groups          map[string]Group
	Users           map[string]User
	UserGroups      map[string]UserGroup
	Snapshots       map[string]Snapshot
	SubnetGroups    map[string]ack.CacheSubnetGroupSpec
	ParameterGroups map[string]ack.CacheParameterGroupSpec
	// Events are those of groups by ID, which remain after the group.
	Events map[string][]Event
	// Faults fail calls.
	Faults []Fault
	// FailCreations is the number of further creations of groups that fail after the call.
	FailCreations int
	// RollBack is the number of further modifications of groups that AWS rolls back.
	RollBack int
	// Lost is the address of a group that was deleted behind ACK's back, until AWS has created another.
	Lost string
}

// Fault fails calls of an action.
type Fault struct {
	Action, Code, Message string
	// Times is the number of further calls that fail; negative is all of them.
	Times int
}

// Call is a call of an action that changes something.
type Call struct {
	Action, ID string
	// Code is the error, empty if there is none.
	Code string
}

func newAccount() Account {
	return Account{
		Groups: map[string]Group{}, UserGroups: map[string]UserGroup{}, Snapshots: map[string]Snapshot{},
		ParameterGroups: map[string]ack.CacheParameterGroupSpec{}, Events: map[string][]Event{},
		SubnetGroups: map[string]ack.CacheSubnetGroupSpec{"default": {CacheSubnetGroupName: ptr.To("default")}},
		Users:        map[string]User{"default": {Spec: ack.UserSpec{UserID: ptr.To("default"), UserName: ptr.To("default"), Engine: ptr.To("redis")}}},
	}
}

func (a *Account) clone() Account {
	return Account{
		Groups: maps.Clone(a.Groups), Users: maps.Clone(a.Users), UserGroups: maps.Clone(a.UserGroups), Snapshots: maps.Clone(a.Snapshots),
		SubnetGroups: maps.Clone(a.SubnetGroups), ParameterGroups: maps.Clone(a.ParameterGroups),
		Events: maps.Clone(a.Events), Faults: slices.Clone(a.Faults), FailCreations: a.FailCreations, RollBack: a.RollBack, Lost: a.Lost,
	}
}

// call performs a call of an action, which a fault may fail. Reads are not recorded.
func (s *session) call(action, id string, run func() error) error {
	err := s.fault(action)
	if err == nil {
		err = run()
	}
	if strings.HasPrefix(action, "Describe") || strings.HasPrefix(action, "List") {
		return err
	}
	call := Call{Action: action, ID: id}
	var refused Error
	if errors.As(err, &refused) {
		call.Code = refused.Code
	}
	s.result.Calls = append(s.result.Calls, call)
	return err
}

func (a *Account) fault(action string) error {
	i := slices.IndexFunc(a.Faults, func(f Fault) bool { return f.Action == action && f.Times != 0 })
	if i < 0 {
		return nil
	}
	f := &a.Faults[i]
	f.Times--
	return Error{Action: action, Code: f.Code, Message: f.Message}
}

// Refuse fails calls of an action; a negative number of times is until Permit.
func (a *Account) Refuse(action, code, message string, times int) {
	a.Faults = append(a.Faults, Fault{Action: action, Code: code, Message: message, Times: times})
}

// Permit ends all faults.
func (a *Account) Permit() { a.Faults = nil }

// settle completes the operations that are over.
func (a *Account) settle(now time.Time) {
	for id, g := range a.Groups {
		if g.State == ack.GroupAvailable || g.State == ack.GroupCreateFailed || now.Before(g.Done) {
			continue
		}
		if g.State == ack.GroupDeleting {
			delete(a.Groups, id)
		} else {
			a.Groups[id] = a.completed(g)
		}
	}
	for id, g := range a.UserGroups {
		if !now.Before(g.Done) {
			g.State = ack.UserActive
			a.UserGroups[id] = g
		}
	}
	for id, snapshot := range a.Snapshots {
		if snapshot.State == snapshotCreating && !now.Before(snapshot.Done) {
			snapshot.State = ack.SnapshotAvailable
			a.Snapshots[id] = snapshot
		}
	}
}

// DeleteGroups deletes all groups behind ACK's back.
func (a *Account) DeleteGroups() {
	for _, g := range a.Groups {
		a.Lost = g.address()
	}
	clear(a.Groups)
}

// Tokens are the newest token and the previous one, if AWS still accepts it.
type Tokens [2]string

// AcceptOnly returns the tokens of a server that accepts only one.
func AcceptOnly(token string) Tokens { return Tokens{token} }

// Accept reports whether a token is accepted.
func (t Tokens) Accept(token string) bool {
	return token == t[0] || t[1] != "" && token == t[1]
}

// rotatedTo returns the tokens after a modification with a token.
func (t Tokens) rotatedTo(token string) Tokens {
	if token == t[0] {
		return t
	}
	return Tokens{token, t[0]}
}

// Tokens returns the tokens that the server at an address accepts, and false if there is no server.
func (a *Account) Tokens(at string) (Tokens, bool) {
	g, ok := a.server(at)
	return a.tokensOf(g), ok
}

// Accepts reports whether there is a server at an address that a user can log in to. The default user
// has an empty name.
func (a *Account) Accepts(at, user, password string) bool {
	g, ok := a.server(at)
	if !ok || len(g.Spec.UserGroupIDs) == 0 {
		return ok && user == "" && g.Tokens.Accept(password)
	}
	return slices.ContainsFunc(g.Spec.UserGroupIDs, func(group *string) bool {
		return slices.ContainsFunc(a.UserGroups[*group].Spec.UserIDs, func(id *string) bool {
			u := a.Users[*id]
			return ack.Value(u.Spec.UserName) == user && slices.Contains(u.Passwords, password)
		})
	})
}

// server returns the group whose server is at an address. One that is being created has none.
func (a *Account) server(at string) (Group, bool) {
	for _, g := range a.Groups {
		if g.address() == at && g.State != ack.GroupCreating && g.State != ack.GroupCreateFailed {
			return g, true
		}
	}
	return Group{}, false
}

// tokensOf returns the tokens of a group, or the passwords of the user of its user groups that has
// some.
func (a *Account) tokensOf(g Group) Tokens {
	tokens := g.Tokens
	for _, group := range g.Spec.UserGroupIDs {
		for _, id := range a.UserGroups[*group].Spec.UserIDs {
			if passwords := a.Users[*id].Passwords; len(passwords) > 0 {
				copy(tokens[:], passwords)
			}
		}
	}
	return tokens
}

// Describe returns the state of the account with times relative to now, without events.
func (a *Account) Describe(now time.Time) string {
	var description strings.Builder
	fmt.Fprintln(&description, a.Faults, a.FailCreations, a.RollBack, a.Lost, text(a.SubnetGroups), text(a.ParameterGroups))
	for _, id := range slices.Sorted(maps.Keys(a.Groups)) {
		g := a.Groups[id]
		fmt.Fprintln(&description, g.State, g.Host, g.Primary, g.Fails, until(g.Done, now), g.Tokens, g.PendingTokens, text(g.Spec), text(g.Pending))
	}
	for _, id := range slices.Sorted(maps.Keys(a.Snapshots)) {
		fmt.Fprintln(&description, id, a.Snapshots[id].State, until(a.Snapshots[id].Done, now))
	}
	for _, id := range slices.Sorted(maps.Keys(a.Users)) {
		fmt.Fprintln(&description, id, a.Users[id].Passwords, until(a.Users[id].ActiveAt, now), text(a.Users[id].Spec))
	}
	for _, id := range slices.Sorted(maps.Keys(a.UserGroups)) {
		fmt.Fprintln(&description, a.UserGroups[id].State, until(a.UserGroups[id].Done, now), text(a.UserGroups[id].Spec))
	}
	return description.String()
}

// port is the default port of Redis.
const port = 6379

func host(id string) string { return "master." + id + ".use1.cache.amazonaws.com" }

func (g Group) address() string { return g.Host + ":" + strconv.Itoa(port) }

// arn returns the ARN of a resource.
func arn(kind, id string) string {
	return fmt.Sprintf("arn:aws:elasticache:%s:%s:%s:%s", Region, AccountID, kind, id)
}
