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

// cloud is a theatre with ACK and AWS in it, which do as ack.md says: ACK looks at
// once at a spec that changed and every 30 seconds at what is not done, Ready comes
// one look late, and AWS takes its time. What must always hold is checked at each
// frame.
type cloud struct {
	*simulation
	// slow is how long AWS takes to make, change or delete a group.
	slow time.Duration
	// stopped: ACK looks at nothing.
	stopped bool
	// refuse has, by kind, the conditions of what AWS refuses.
	refuse map[string][]ack.Condition
	// failing is how many groups AWS fails to create.
	failing int
	// behind: ACK's looks show with the time of the look before.
	behind bool
	groups map[string]*awsGroup
	// parts are what AWS has besides groups.
	parts map[string]bool
	// users are by ID the names and passwords that AWS was told, members who may log in
	// by user group.
	users   map[string]string
	members map[string][]string
	// specs are the specs of groups as ACK saw them last, polls when it looks again.
	specs map[string]ack.ReplicationGroupSpec
	polls map[string]time.Time
	// applies are the classes of the changes, gone what was deleted, in order.
	applies, gone []string
	// proved are the connections with which a probe succeeded.
	proved map[string]bool
	// outage: AWS lost a group, so nobody gets through.
	outage bool
	// crash has the next look lose its writes after so many.
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

// aCloud holds a FlagCache of which nothing is made yet. Its changes need no canary
// unless it has steps.
func aCloud(t *testing.T, fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *cloud {
	w := anEmptyWorld(t, withCanary(fc, steps...))
	fc.Spec.Canary.Steps = steps
	w.ack = everyKind()
	return &cloud{
		simulation: &simulation{
			world: w, perSecond: 200, lookups: 2, names: map[string]string{},
			bad: map[string]map[checkName]float64{}, counted: map[string]map[checkName][2]float64{},
		},
		slow: 40 * time.Second, refuse: map[string][]ack.Condition{}, groups: map[string]*awsGroup{}, parts: map[string]bool{},
		users: map[string]string{}, members: map[string][]string{},
		specs: map[string]ack.ReplicationGroupSpec{}, polls: map[string]time.Time{}, proved: map[string]bool{}, numbers: map[string]string{},
	}
}

// aReadyCloud brings it to Ready and at rest.
func aReadyCloud(t *testing.T, fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *cloud {
	t.Helper()
	c := aCloud(t, fc, steps...)
	c.until("Ready", c.ready)
	c.run(3 * time.Minute)
	c.trace, c.applies, c.readyFlipped = nil, nil, 0
	return c
}

func (c *cloud) ready() bool {
	return len(c.fc.Status.Conditions) > 0 && c.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue
}

func (c *cloud) run(long time.Duration) {
	for end := c.now.Add(long); c.now.Before(end); {
		c.look()
	}
}

func (c *cloud) until(what string, holds func() bool) {
	c.t.Helper()
	for range 3 * 360 {
		if holds() {
			return
		}
		c.look()
	}
	c.t.Fatalf("%s did not happen within three hours:\n%s\n%v", what, strings.Join(c.trace, "\n"), c.fc.Status.Conditions)
}

func (c *cloud) change(edit func(*v1alpha1.ElastiCacheSpec)) {
	c.edit(func(s *v1alpha1.FlagCacheSpec) { edit(s.Cache.ElastiCache) })
}

// look lets ten seconds pass, in which everybody does what is theirs.
func (c *cloud) look() {
	c.now = c.now.Add(interval)
	if !c.podsStuck {
		c.podsAvailable()
	}
	c.ackLooks()
	c.countTraffic()
	was := c.ready()
	c.reconcileOnce()
	c.probes()
	c.holds()
	if was && !c.ready() {
		c.readyFlipped++
	}
}

// reconcileOnce looks once, or loses what it was about to write.
func (c *cloud) reconcileOnce() {
	film := len(c.trace)
	if c.crash != nil {
		p := Make(c.snapshot())
		for _, o := range p.Apply[:min(*c.crash, len(p.Apply))] {
			c.put(o)
		}
		c.crash = nil
		return
	}
	c.last = c.reconcile()
	c.trace = c.trace[:film]
	if line := c.frame(); len(c.trace) == 0 || c.trace[len(c.trace)-1] != line {
		c.trace = append(c.trace, line)
	}
}

// frame adds the groups and what they cost to what traffic sees.
func (c *cloud) frame() string {
	var groups []string
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		groups = append(groups, c.number(id))
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

// number calls groups #1, #2 … in the order of their appearance.
func (c *cloud) number(id string) string {
	if c.numbers[id] == "" {
		c.numbers[id] = fmt.Sprintf("#%d", len(c.numbers)+1)
	}
	return c.numbers[id]
}

// probes has the operator's probes answer.
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
			c.proved[p.Connection.URI()] = true
		}
	}
}

// accepts tells whether a client gets through.
func (c *cloud) accepts(connection connection.Connection) bool {
	if connection.Provider != elasticache.Provider {
		return true
	}
	for _, g := range c.groups {
		if g.host == connection.Host && g.state != ack.GroupCreating && g.state != ack.GroupCreateFailed {
			if len(g.spec.UserGroupIDs) > 0 {
				return c.lets(g.spec.UserGroupIDs[0], connection)
			}
			return len(g.tokens) == 0 || slices.Contains(g.tokens, connection.Password)
		}
	}
	return false
}

// lets tells whether a user group has a user with a password.
func (c *cloud) lets(group string, connection connection.Connection) bool {
	return slices.ContainsFunc(c.members[group], func(id string) bool {
		return c.users[id] == connection.Username+" "+connection.Password
	})
}

// expectSilence is no frame of the film.
func (c *cloud) expectSilence() {
	c.t.Helper()
	film := len(c.trace)
	c.world.expectSilence()
	c.trace = c.trace[:film]
}

// holds checks what must always hold.
func (c *cloud) holds() {
	c.t.Helper()
	for _, child := range c.children {
		switch o := child.(type) {
		case *corev1.Secret:
			if uri := string(o.Data["uri"]); o.Type == connection.SecretType && string(o.Data["provider"]) == elasticache.Provider && !c.proved[uri] && o.Data["iam-cache"] == nil {
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

// only is the group of the spec, in Kubernetes and in AWS.
func (c *cloud) only() (*ack.ReplicationGroup, *awsGroup) {
	c.t.Helper()
	g := c.group()
	return g, c.groups[g.Spec.ReplicationGroupID]
}

// reason of CacheProvisioned.
func (c *cloud) reason() string {
	if len(c.fc.Status.Conditions) == 0 {
		return ""
	}
	return c.condition(v1alpha1.ConditionCacheProvisioned).Reason
}

func (c *cloud) says(reason string) func() bool {
	return func() bool { return c.reason() == reason }
}
