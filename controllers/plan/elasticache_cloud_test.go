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
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// cloud is a simulation with ACK and AWS, which are those of test/ackmodel. Invariants are
// checked at each tick.
type cloud struct {
	*simulation
	// aws are ACK and the account in AWS that it works in.
	aws ackmodel.Controller
	// ackStopped: ACK syncs nothing. ackAhead is how much its clock is ahead.
	ackStopped bool
	ackAhead   time.Duration
	// synced are the specs of groups after ACK's last sync.
	synced map[types.UID]ack.ReplicationGroupSpec
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

// aCloud has a FlagCache without any children. Its changes need no canary unless it has
// steps.
func aCloud(t *testing.T, fc *v1alpha1.FlagCache, steps ...v1alpha1.CanaryStep) *cloud {
	w := anEmptyWorld(t, withCanary(fc, steps...))
	fc.Spec.Canary.Steps = steps
	w.ack = everyKind()
	return &cloud{
		simulation: &simulation{
			world: w, perSecond: 200, lookups: 2, names: map[string]string{},
			bad: map[string]map[canary.Check]float64{}, counted: map[string]map[canary.Check][2]float64{},
		},
		aws: ackmodel.New(ackTiming), synced: map[types.UID]ack.ReplicationGroupSpec{}, probed: map[string]bool{}, numbers: map[string]string{},
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
	for _, id := range slices.Sorted(maps.Keys(c.aws.Groups)) {
		groups = append(groups, c.groupNumber(id))
	}
	slices.Sort(groups)
	for i, n := range groups {
		for id, number := range c.numbers {
			if number == n {
				groups[i] += " " + c.aws.Groups[id].State
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
			c.probed[p.Connection.URI().Reveal()] = true
		}
	}
}

// accepts reports whether a client can connect.
func (c *cloud) accepts(connection connection.Connection) bool {
	if connection.Provider != elasticache.Provider {
		return true
	}
	return c.aws.Accepts(connection.Endpoint(), connection.Username, connection.Password.Reveal())
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
				c.t.Errorf("the pods of %s use %s, which AWS does not accept", o.Name, connection.URI().Reveal())
			}
		}
	}
}

// recordChange checks that what changed since ACK's last sync is of one class, and that AWS has carried
// out the previous change.
func (c *cloud) recordChange(g *ack.ReplicationGroup) {
	c.t.Helper()
	inAWS, created := c.aws.Groups[*g.Spec.ReplicationGroupID]
	before, known := c.synced[g.UID]
	if !created || !known || g.Annotations[ack.AnnotationReadOnly] != "" { // ACK changes nothing that is read-only
		return
	}
	if before.NumNodeGroups == nil { // ACK has written a part of the spec only
		return
	}
	differ := elasticache.Differences(before, g.Spec)
	busy := inAWS.State == ack.GroupModifying && c.now.Before(inAWS.Done)
	if len(differ) > 1 || len(differ) > 0 && busy {
		c.t.Errorf("a change of %v is made at once, while the group is %s", differ, inAWS.State)
	}
	c.changedClasses = append(c.changedClasses, differ...)
}

// checkCalls checks that nothing is deleted that something else in AWS still needs.
func (c *cloud) checkCalls(calls []ackmodel.Call) {
	c.t.Helper()
	for _, call := range calls {
		if slices.Contains([]string{"CacheSubnetGroupInUse", "InvalidCacheParameterGroupState", "DependencyViolation"}, call.Code) {
			c.t.Errorf("%s of %s, which is in use: %s", call.Action, call.ID, call.Code)
		}
		for id, group := range c.aws.UserGroups {
			if call.Action == "DeleteUser" && slices.Contains(ack.Values(group.Spec.UserIDs), call.ID) {
				c.t.Errorf("user %s is deleted while user group %s contains it", call.ID, id)
			}
		}
	}
}

// recordDeletion records the kind of an object that is deleted.
func (c *cloud) recordDeletion(o observed.Object) {
	kind := ack.KindOf(o).Kind
	if o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain {
		kind += " (retained)"
	}
	c.deletedKinds = append(c.deletedKinds, kind)
}

// onlyGroup is the group of the spec, in Kubernetes and in AWS.
func (c *cloud) onlyGroup() (*ack.ReplicationGroup, ackmodel.Group) {
	c.t.Helper()
	g := c.group()
	return g, c.aws.Groups[*g.Spec.ReplicationGroupID]
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

// annotateFlagCache sets an annotation, as a user does.
func (c *cloud) annotateFlagCache(key, value string) {
	if c.fc.Annotations == nil {
		c.fc.Annotations = map[string]string{}
	}
	c.fc.Annotations[key] = value
}

// retry requests the rejected revision again.
func (c *cloud) retry() {
	c.annotateFlagCache(v1alpha1.AnnotationRetry, c.fc.Status.Revisions.Rejected)
}
