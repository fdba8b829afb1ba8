// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// cloud is a simulation with ACK and AWS: ACK syncs a changed spec at once and every 30
// seconds what is not done, Ready is one sync late, and AWS takes time. Invariants are
// checked at each tick.
type cloud struct {
	*simulation
	// awsDelay is how long AWS takes to create, change or delete a group.
	awsDelay time.Duration
	// ackStopped: ACK syncs nothing.
	ackStopped bool
	// refusals are, by kind, the conditions of what AWS refuses.
	refusals map[string][]*ack.Condition
	// failing is how many groups AWS fails to create.
	failing int
	// sameSecond: ACK's syncs have the time of the previous sync.
	sameSecond bool
	groups     map[string]*awsGroup
	// resources are what AWS has apart from groups.
	resources map[string]bool
	// users are the names and passwords in AWS by ID, members the users of each user
	// group.
	users   map[string]string
	members map[string][]string
	// specs are the specs of groups at the last sync, nextSync when ACK syncs again.
	specs    map[string]ack.ReplicationGroupSpec
	nextSync map[string]time.Time
	// changedClasses are the classes of the changes, deletedKinds what was deleted, in order.
	changedClasses, deletedKinds []string
	// probed are the connections with which a probe succeeded.
	probed map[string]bool
	// outage: AWS lost a group, so nobody can connect.
	outage bool
	// crash has the next reconcile lose its writes after so many.
	crash *int
	last  Plan
	// readyFlipped is how often Ready ceased to be True.
	readyFlipped int
	numbers      map[string]string
}

// awsGroup is a group as AWS has it.
type awsGroup struct {
	spec   ack.ReplicationGroupSpec
	state  string
	until  time.Time
	tokens []string
	host   string
	made   metav1.Time
	fails  bool
}

// aCloud has a FlagCache without any children. Its changes need no canary unless it has
// steps.
func aCloud(t *testing.T, fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *cloud {
	w := anEmptyWorld(t, withCanary(fc, steps...))
	fc.Spec.Canary.Steps = steps
	w.ack = everyKind()
	return &cloud{
		simulation: &simulation{
			world: w, perSecond: 200, lookups: 2, names: map[string]string{},
			bad: map[string]map[checkName]float64{}, counted: map[string]map[checkName][2]float64{},
		},
		awsDelay: 40 * time.Second, refusals: map[string][]*ack.Condition{}, groups: map[string]*awsGroup{}, resources: map[string]bool{},
		users: map[string]string{}, members: map[string][]string{},
		specs: map[string]ack.ReplicationGroupSpec{}, nextSync: map[string]time.Time{}, probed: map[string]bool{}, numbers: map[string]string{},
	}
}

// aReadyCloud has a FlagCache that is Ready and in steady state.
func aReadyCloud(t *testing.T, fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *cloud {
	t.Helper()
	c := aCloud(t, fc, steps...)
	c.until("Ready", c.ready)
	c.runFor(3 * time.Minute)
	c.trace, c.changedClasses, c.readyFlipped = nil, nil, 0
	return c
}

func (c *cloud) ready() bool {
	return len(c.fc.Status.Conditions) > 0 && c.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue
}

func (c *cloud) runFor(long time.Duration) {
	for end := c.now.Add(long); c.now.Before(end); {
		c.tick()
	}
}

func (c *cloud) until(what string, holds func() bool) {
	c.t.Helper()
	for range 3 * 360 {
		if holds() {
			return
		}
		c.tick()
	}
	c.t.Fatalf("%s did not happen within three hours:\n%s\n%v", what, strings.Join(c.trace, "\n"), c.fc.Status.Conditions)
}

func (c *cloud) change(edit func(*v1alpha1.ElastiCacheSpec)) {
	c.edit(func(s *v1alpha1.FlagCacheSpec) { edit(s.Cache.ElastiCache) })
}

// tick lets ten seconds pass for everybody.
func (c *cloud) tick() {
	c.now = c.now.Add(interval)
	if !c.podsStuck {
		c.podsAvailable()
	}
	c.syncAll()
	c.countTraffic()
	was := c.ready()
	c.reconcileOnce()
	c.probes()
	c.checkInvariants()
	if was && !c.ready() {
		c.readyFlipped++
	}
}

// reconcileOnce reconciles once, or crashes while writing.
func (c *cloud) reconcileOnce() {
	frames := len(c.trace)
	if c.crash != nil {
		p := Make(c.snapshot())
		for _, o := range p.Apply[:min(*c.crash, len(p.Apply))] {
			c.put(o)
		}
		c.crash = nil
		return
	}
	c.last = c.reconcile()
	c.trace = c.trace[:frames]
	if line := c.frame(); len(c.trace) == 0 || c.trace[len(c.trace)-1] != line {
		c.trace = append(c.trace, line)
	}
}

// frame adds the groups and their cost to the traffic.
func (c *cloud) frame() string {
	var groups []string
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		groups = append(groups, c.groupNumber(id))
	}
	slices.Sort(groups)
	for i, n := range groups {
		for id, number := range c.numbers {
			if number == n {
				groups[i] += " " + c.groups[id].state
			}
		}
	}
	cost := "-"
	if c.fc.Status.Cost != nil {
		cost = c.fc.Status.Cost.MonthlyUSD
	}
	return c.simulation.frame() + "  groups " + strings.Join(groups, ", ") + "  USD " + cost
}

// groupNumber names groups #1, #2 … in the order of their creation.
func (c *cloud) groupNumber(id string) string {
	if c.numbers[id] == "" {
		c.numbers[id] = fmt.Sprintf("#%d", len(c.numbers)+1)
	}
	return c.numbers[id]
}

// probes reports the results of the operator's probes.
func (c *cloud) probes() {
	if p := c.last.Probe; p != nil {
		c.probe = observed.Probe{Health: observed.Unhealthy, Reason: "WrongPassword", Message: "refused"}
		if c.accepts(p.Connection) {
			c.probe = observed.Probe{Health: observed.Healthy, Of: p.ID}
		}
	}
	if p := c.last.ProbeNext; p != nil {
		c.nextProbe = observed.Probe{Health: observed.Unhealthy, Of: p.ID, Reason: "WrongPassword", Message: "The password is refused"}
		if c.accepts(p.Connection) {
			c.nextProbe = observed.Probe{Health: observed.Healthy, Of: p.ID}
			c.probed[p.Connection.URI()] = true
		}
	}
}

// accepts reports whether a client can connect.
func (c *cloud) accepts(connection connection.Connection) bool {
	if connection.Provider != elasticache.Provider {
		return true
	}
	for _, g := range c.groups {
		if g.host == connection.Host && g.state != ack.GroupCreating && g.state != ack.GroupCreateFailed {
			if len(g.spec.UserGroupIDs) > 0 {
				return c.userGroupAccepts(*g.spec.UserGroupIDs[0], connection)
			}
			return len(g.tokens) == 0 || slices.Contains(g.tokens, connection.Password)
		}
	}
	return false
}

// userGroupAccepts reports whether a user group has a user with the password.
func (c *cloud) userGroupAccepts(group string, connection connection.Connection) bool {
	return slices.ContainsFunc(c.members[group], func(id string) bool {
		return c.users[id] == connection.Username+" "+connection.Password
	})
}

// expectSilence adds no line to the trace.
func (c *cloud) expectSilence() {
	c.t.Helper()
	frames := len(c.trace)
	c.world.expectSilence()
	c.trace = c.trace[:frames]
}

// checkInvariants checks what must always be true.
func (c *cloud) checkInvariants() {
	c.t.Helper()
	for _, child := range c.children {
		switch o := child.(type) {
		case *corev1.Secret:
			if uri := string(o.Data["uri"]); o.Type == connection.SecretType && string(o.Data["provider"]) == elasticache.Provider && !c.probed[uri] && o.Data["iam-cache"] == nil {
				c.t.Errorf("Secret %s names %s, with which no probe has succeeded", o.Name, uri)
			}
		case *appsv1.Deployment:
			connection, ok := connection.Of(c.index(), o)
			if ok && o.Spec.Template.Annotations[v1alpha1.AnnotationCache] != "" && o.DeletionTimestamp == nil && connection.IAMCache == "" && !c.outage && !c.accepts(connection) {
				c.t.Errorf("the pods of %s use %s, which AWS does not accept", o.Name, connection.URI())
			}
		}
	}
}

// onlyGroup is the group of the spec, in Kubernetes and in AWS.
func (c *cloud) onlyGroup() (*ack.ReplicationGroup, *awsGroup) {
	c.t.Helper()
	g := c.group()
	return g, c.groups[*g.Spec.ReplicationGroupID]
}

// reason of CacheProvisioned.
func (c *cloud) reason() string {
	if len(c.fc.Status.Conditions) == 0 {
		return ""
	}
	return c.condition(v1alpha1.ConditionCacheProvisioned).Reason
}

func (c *cloud) hasReason(reason string) func() bool {
	return func() bool { return c.reason() == reason }
}
