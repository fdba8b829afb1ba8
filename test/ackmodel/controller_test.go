// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel_test

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackmodel"
)

var (
	noon   = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	timing = ackmodel.Timing{Poll: 30 * time.Second, Resync: 10 * time.Hour, Backoff: time.Second, MaxBackoff: 10 * time.Second, Operation: 5 * time.Minute}
)

// noSecrets has no Secrets.
type noSecrets struct{}

func (noSecrets) Secret(*ack.SecretKey) (string, error) { return "", ackmodel.ErrSecretNotFound }

func aUser() *ack.User {
	return &ack.User{
		ObjectMeta: metav1.ObjectMeta{Name: "app", UID: "1", Generation: 1},
		Spec:       ack.UserSpec{UserID: ptr.To("app"), UserName: ptr.To("app"), Engine: ptr.To("redis"), AccessString: ptr.To("on ~* +@all")},
	}
}

// delays returns the delays between the next syncs of an object, up to a number of them.
func delays(c *ackmodel.Controller, o client.Object, n int) []time.Duration {
	var list []time.Duration
	for now := noon; len(list) < n; {
		for _, version := range c.Sync(o, noSecrets{}, now).Versions {
			version.SetGeneration(o.GetGeneration()) // only the queue matters
			o = version
		}
		due, ok := c.Due(o)
		if !ok {
			return list
		}
		list = append(list, due.Sub(now))
		now = due
	}
	return list
}

func TestQueue(t *testing.T) {
	waiting := aUser()
	waiting.Spec.Passwords = []*ack.SecretKey{{}}
	for name, test := range map[string]struct {
		object client.Object
		code   string
		want   []time.Duration
	}{
		"backs off from an error, up to a limit": {
			waiting, "", []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second},
		},
		"backs off from a refusal":            {aUser(), "AccessDenied", []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second}},
		"never retries a terminal error":      {aUser(), "UserQuotaExceeded", nil},
		"syncs again after the resync period": {aUser(), "-", slices.Repeat([]time.Duration{10 * time.Hour}, 6)},
	} {
		t.Run(name, func(t *testing.T) {
			c := ackmodel.New(timing)
			if test.code != "-" {
				c.Refuse("CreateUser", test.code, "no", -1)
			}
			if got := delays(&c, test.object, 6); !slices.Equal(got, test.want) {
				t.Errorf("the delays are %v, want %v", got, test.want)
			}
		})
	}
}

// TestEarlierSyncIsNotPostponed verifies that a sync by a change of the spec keeps the one that is
// scheduled.
func TestEarlierSyncIsNotPostponed(t *testing.T) {
	c := ackmodel.New(timing)
	g := &ack.ReplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "1", Generation: 1}}
	g.Spec.ReplicationGroupID, g.Spec.Description = ptr.To("demo"), ptr.To("a cache")
	versions := c.Sync(g, noSecrets{}, noon).Versions
	latest := versions[len(versions)-1]
	latest.SetGeneration(2)
	if len(c.Sync(latest, noSecrets{}, noon.Add(20*time.Second)).Versions) == 0 {
		t.Fatal("a change of the spec is not synced")
	}
	if due, _ := c.Due(latest); !due.Equal(noon.Add(30 * time.Second)) {
		t.Errorf("the next sync is at %v, want the one that was scheduled before the change", due)
	}
	if result := c.Sync(latest, noSecrets{}, noon.Add(29*time.Second)); result.Synced {
		t.Error("it is synced before that")
	}
}

// TestCloneIsIndependent verifies that a clone and its original do not share state.
func TestCloneIsIndependent(t *testing.T) {
	c := ackmodel.New(timing)
	clone := c.Clone()
	user := aUser()
	before := clone.Describe(noon)
	c.Refuse("DeleteUser", "AccessDenied", "no", 1)
	c.Sync(user, noSecrets{}, noon)
	if got := clone.Describe(noon); got != before {
		t.Errorf("the clone has changed:\n%s\nwant:\n%s", got, before)
	}
	if !clone.Sync(user, noSecrets{}, noon).Synced {
		t.Error("the clone believes that it has synced the user")
	}
}

// aGroup has a security group.
func aGroup() *ack.ReplicationGroup {
	return &ack.ReplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "2", Generation: 1},
		Spec:       ack.ReplicationGroupSpec{ReplicationGroupID: ptr.To("demo"), Description: ptr.To("a cache"), SecurityGroupIDs: ack.Pointers("sg-demo")},
	}
}

// TestServerAcceptsUsers verifies who can log in to a group, and that a group that is being created has
// no server.
func TestServerAcceptsUsers(t *testing.T) {
	c := ackmodel.New(timing)
	g := aGroup()
	c.Sync(g, noSecrets{}, noon)
	at := c.Groups["demo"].Host + ":6379"
	if c.Accepts(at, "", "") {
		t.Error("a group that is being created has a server")
	}
	later := noon.Add(timing.Operation)
	c.SyncAt(g, later)
	c.Sync(g, noSecrets{}, later)
	if !c.Accepts(at, "", "") || c.Accepts(at, "", "a password") || c.Accepts("elsewhere:6379", "", "") {
		t.Error("a server without a password accepts others than its address and no password")
	}
	inAWS := c.Groups["demo"]
	inAWS.Spec.UserGroupIDs = ack.Pointers("team")
	c.Groups["demo"] = inAWS
	c.UserGroups["team"] = ackmodel.UserGroup{Spec: ack.UserGroupSpec{UserIDs: ack.Pointers("1")}}
	c.Users["1"] = ackmodel.User{Spec: ack.UserSpec{UserName: ptr.To("app")}, Passwords: []string{"old", "new"}}
	if !c.Accepts(at, "app", "new") || c.Accepts(at, "app", "") || c.Accepts(at, "", "new") {
		t.Error("a server with users accepts others than a user with one of its passwords")
	}
}

// TestOtherKinds verifies that their calls can fail, and that AWS keeps a security group in use.
func TestOtherKinds(t *testing.T) {
	c := ackmodel.New(timing)
	sync := func(o client.Object, now time.Time) (client.Object, ackmodel.Call) {
		c.SyncAt(o, now)
		result := c.Sync(o, noSecrets{}, now)
		return result.Versions[len(result.Versions)-1], result.Calls[len(result.Calls)-1]
	}
	var group client.Object = &ack.SecurityGroup{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "3"}, Spec: ack.SecurityGroupSpec{Name: ptr.To("demo")}}
	c.Refuse("CreateSecurityGroup", "AccessDenied", "no", 1)
	group, call := sync(group, noon)
	if call.Code != "AccessDenied" || ack.Value(group.(*ack.SecurityGroup).Status.ID) != "" {
		t.Errorf("the refused call is %v, the group %+v", call, group)
	}
	if group, call = sync(group, noon.Add(time.Second)); call.Code != "" || ack.Value(group.(*ack.SecurityGroup).Status.ID) != "sg-demo" {
		t.Errorf("the call is %v, the group %+v", call, group)
	}
	c.Sync(aGroup(), noSecrets{}, noon)
	group.SetDeletionTimestamp(ptr.To(metav1.NewTime(noon)))
	if _, call = sync(group, noon.Add(2*time.Second)); call.Code != "DependencyViolation" {
		t.Errorf("the deletion of a group in use is %v", call)
	}
	clear(c.Groups)
	if group, call = sync(group, noon.Add(3*time.Second)); call.Code != "" || len(group.GetFinalizers()) > 0 {
		t.Errorf("the deletion is %v, the group has the finalizers %v", call, group.GetFinalizers())
	}
}
