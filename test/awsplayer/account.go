// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/go-logr/logr"

	"github.com/flagcache/flagcache/test/awsplayer/fleet"
)

// The account.
const (
	accountID = "123456789012"
	callerARN = "arn:aws:iam::" + accountID + ":user/ack"
)

// account is the state of AWS, kept in memory while the player runs.
type account struct {
	options   Options
	log       logr.Logger
	authority *fleet.Authority
	dir       string

	// ctx ends when the player stops; background counts the goroutines that run beside
	// the requests.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	journal journal

	mu              sync.Mutex
	region          string // "" until the first request to ElastiCache
	groups          map[string]*group
	subnetGroups    map[string]*subnetGroup
	parameterGroups map[string]*parameterGroup
	users           map[string]*user
	userGroups      map[string]*userGroup
	snapshots       map[string]*snapshot
	tags            map[string][]types.Tag // by ARN
	events          []types.Event
}

func newAccount(o Options, authority *fleet.Authority) *account {
	a := &account{
		options: o, log: o.Log, authority: authority, region: o.Region,
		groups: map[string]*group{}, subnetGroups: map[string]*subnetGroup{}, parameterGroups: map[string]*parameterGroup{},
		users: map[string]*user{}, userGroups: map[string]*userGroup{}, snapshots: map[string]*snapshot{}, tags: map[string][]types.Tag{},
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	for _, name := range o.SubnetGroups {
		a.subnetGroups[name] = &subnetGroup{name: name, description: "Default CacheSubnetGroup", subnets: []string{"subnet-0a", "subnet-0b"}}
	}
	for _, family := range families {
		name := "default." + family
		a.parameterGroups[name] = &parameterGroup{name: name, family: family, description: "Default parameter group for " + family}
	}
	// Every account has a user named default.
	a.users["default"] = &user{id: "default", name: "default", engine: "redis", access: "on ~* +@all", authentication: types.AuthenticationTypeNoPassword}
	return a
}

// open creates the directory for the servers' files.
func (a *account) open() error {
	var err error
	if a.dir, err = os.MkdirTemp("", "awsplayer-"); err != nil {
		return fmt.Errorf("creating a directory: %w", err)
	}
	return a.authority.Write(a.dir)
}

// close stops all servers and waits until everything is cleaned up.
func (a *account) close() {
	a.cancel()
	a.background.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.groups {
		g.fleet.Stop()
	}
	_ = os.RemoveAll(a.dir)
}

// settleAll ends the operations whose time has come. The caller holds the lock.
func (a *account) settleAll() {
	for _, g := range a.groups {
		a.settle(g)
	}
	now := time.Now()
	for id, u := range a.users {
		if deleted(u.deletedAt, now) {
			delete(a.users, id)
			delete(a.tags, a.arn("user", id))
		}
	}
	for id, g := range a.userGroups {
		g.settle(now)
		if deleted(g.deletedAt, now) {
			delete(a.userGroups, id)
			delete(a.tags, a.arn("usergroup", id))
		}
	}
	for name, s := range a.snapshots {
		if deleted(s.deletedAt, now) {
			delete(a.snapshots, name)
			delete(a.tags, a.arn("snapshot", name))
		}
	}
}

func deleted(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// arn is the ARN of an ElastiCache resource.
func (a *account) arn(resource, id string) string {
	return fmt.Sprintf("arn:aws:elasticache:%s:%s:%s:%s", a.region, accountID, resource, id)
}

// maxEvents bounds the events that are kept.
const maxEvents = 1000

// event records an event of a resource. The caller holds the lock.
func (a *account) event(source types.SourceType, id, format string, args ...any) {
	now := time.Now().UTC()
	a.events = append(a.events, types.Event{Date: &now, Message: text(format, args...), SourceIdentifier: &id, SourceType: source})
	if len(a.events) > maxEvents {
		a.events = slices.Delete(a.events, 0, len(a.events)-maxEvents)
	}
}
