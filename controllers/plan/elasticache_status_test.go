// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// The group is usable when its state is available, ACK reports Ready, it has an endpoint,
// and a probe succeeded with exactly these bytes.
func TestReadyIsTrueLast(t *testing.T) {
	for name, slow := range map[string]time.Duration{"a fast AWS": 10 * time.Second, "a slow AWS": 25 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, withElastiCache(aFlagCache()))
			c.awsDelay = slow
			c.until("a group", func() bool { return len(c.groups) == 1 })
			for !c.ready() {
				c.tick()
				g, aws := c.onlyGroup()
				usable := ack.GroupState(g) == ack.GroupAvailable && ack.ConditionsOf(g).Is(ack.ConditionReady) && ack.PrimaryEndpoint(g) != nil
				if c.last.ProbeNext != nil && !usable && c.last.ProbeNext.Connection.Host != aws.host {
					t.Fatalf("a group that is not available is probed: %v", c.last.ProbeNext)
				}
				if provisioned := c.reason() == v1alpha1.ReasonProvisioned; provisioned && (!usable || len(c.probed) == 0) {
					t.Fatalf("the cache is provisioned while the group is %s", ack.GroupState(g))
				}
				if c.reason() == v1alpha1.ReasonACKNotResponding {
					t.Fatalf("a slow AWS is reported as an unresponsive ACK")
				}
			}
			c.runFor(3 * time.Minute)
			c.expectSilence()
			if c.readyFlipped > 0 {
				t.Errorf("Ready flipped %d times", c.readyFlipped)
			}
		})
	}
}

// Nothing that AWS does to a group by itself changes Ready or CacheHealthy while probes
// succeed.
func TestReadyIsStableThroughMaintenance(t *testing.T) {
	for name, states := range map[string][]string{
		"snapshotting":        {ack.GroupSnapshotting, ack.GroupSnapshotting, ack.GroupAvailable},
		"modifying":           {ack.GroupModifying, ack.GroupModifying, ack.GroupAvailable},
		"an unknown state":    {"rebalancing", ack.GroupAvailable},
		"one after the other": {ack.GroupModifying, ack.GroupSnapshotting, ack.GroupModifying, ack.GroupAvailable},
		"throttled meanwhile": {ack.GroupModifying, "throttled", ack.GroupModifying, ack.GroupAvailable},
	} {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			g, aws := c.onlyGroup()
			for _, state := range states {
				if state == "throttled" {
					c.reportConditions(g, recoverable("api error Throttling: Rate exceeded")...)
				} else {
					aws.state = state
					c.reportGroup(g, aws, false)
				}
				c.runFor(20 * time.Second)
				g, aws = c.onlyGroup()
			}
			c.runFor(5 * time.Minute)
			if c.readyFlipped > 0 || !c.ready() {
				t.Errorf("Ready flipped %d times", c.readyFlipped)
			}
			if len(c.changedClasses) > 0 {
				t.Errorf("the group was changed: %v", c.changedClasses)
			}
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
		})
	}
}

// The roles move, the primary's name stays, and ACK notices ten hours later.
func TestReadyIsStableThroughFailover(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	g, _ := c.onlyGroup()
	g.Status.NodeGroups[0].NodeGroupMembers = []*ack.NodeGroupMember{
		{CacheClusterID: ptr.To("001"), CurrentRole: ptr.To("replica")}, {CacheClusterID: ptr.To("002"), CurrentRole: ptr.To("primary")},
	}
	c.runFor(5 * time.Minute)
	if c.readyFlipped > 0 || len(c.changedClasses) > 0 {
		t.Errorf("Ready flipped %d times, changes %v", c.readyFlipped, c.changedClasses)
	}
}

// ACK reports Ready=True for a group that AWS failed to create.
func TestCreateFailedIsNotReady(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.failing = 1
	c.until("the failure", c.hasReason(v1alpha1.ReasonCreateFailed))
	if g := c.group(); !ack.ConditionsOf(g).Is(ack.ConditionReady) {
		t.Fatal("ACK does not report Ready")
	}
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonCreateFailed)
}

// ACK creates a group that it does not find again, empty, without reporting it; its
// creation time differs.
func TestRecreatedGroupIsAnEvent(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	g, aws := c.onlyGroup()
	before := *c.fc.Status.DeepCopy()
	c.outage = true
	delete(c.groups, *g.Spec.ReplicationGroupID)
	c.createGroup(g)
	g.Status.ReplicationGroupCreateTime = nil // AWS reports it when the group is available
	c.tick()
	for ack.GroupState(c.group()) != ack.GroupAvailable {
		c.tick()
	}
	c.runFor(time.Minute)
	_, made := c.onlyGroup()
	if made.made.Equal(&aws.made) {
		t.Fatal("it was not created again")
	}
	var reasons []string
	for _, e := range Transitions(before, c.fc.Status) {
		reasons = append(reasons, e.Reason)
	}
	if len(reasons) != 1 || reasons[0] != v1alpha1.ReasonRecreated {
		t.Errorf("the events are %v", reasons)
	}
	if !c.ready() {
		t.Error("it is not Ready again")
	}
}

// An object that ACK has not synced for five minutes is reported; a group that takes AWS
// long is not.
func TestUnresponsiveACKIsDistinguishedFromSlowAWS(t *testing.T) {
	t.Run("from the beginning", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		c.ackStopped = true
		c.runFor(4 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonProvisioning)
		c.runFor(2 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		c.expectMessage(v1alpha1.ConditionCacheProvisioned, "ReplicationGroup demo-", "elasticache-controller")
		c.ackStopped = false
		c.until("Ready", c.ready)
	})
	t.Run("at what the group refers to", func(t *testing.T) {
		fc := withElastiCache(aFlagCache())
		fc.Spec.Cache.ElastiCache.SubnetIDs = []v1alpha1.SubnetID{"subnet-1", "subnet-2"}
		c := aCloud(t, fc)
		c.ackStopped = true
		c.runFor(6 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		if c.last.RequeueAfter == 0 {
			t.Error("there is no reconcile to find that out")
		}
	})
	t.Run("while AWS creates the group", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		c.awsDelay = time.Hour
		c.runFor(20 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonProvisioning)
		c.ackStopped = true
		c.runFor(6 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
	})
	t.Run("at a change just after a sync", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		g, aws := c.onlyGroup()
		c.reportGroup(g, aws, true)
		c.ackStopped = true
		c.now = c.now.Add(interval)
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
		for range 20 {
			c.runFor(10 * time.Second)
			c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonModifying)
		}
		c.runFor(5 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		c.ackStopped = false
		c.until("Ready", c.ready)
		c.expectSilence()
	})
	t.Run("at a change", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.ackStopped = true
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
		c.runFor(4 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		c.runFor(2 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		c.ackStopped = false
		c.until("Ready", c.ready)
	})
	t.Run("in steady state", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.ackStopped = true
		c.runFor(time.Hour)
		c.expectSilence()
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	})
}

// ACK retries after 17 minutes at most.
func TestUnresponsiveACKIsReportedAfterAnErrorThatItRetries(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.refusals["update"] = recoverable("api error Throttling: Rate exceeded")
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
	c.runFor(time.Minute)
	c.ackStopped = true
	c.runFor(18 * time.Minute)
	c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonAWSRetrying)
	c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	c.runFor(4 * time.Minute)
	c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonACKNotResponding)
	c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
}
