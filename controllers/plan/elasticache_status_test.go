// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// The group is usable when its state is available, ACK reports Ready, it has an endpoint,
// and a probe succeeded with exactly these bytes.
func TestReadyIsTrueLast(t *testing.T) {
	for name, slow := range map[string]time.Duration{"a fast AWS": 10 * time.Second, "a slow AWS": 25 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, withElastiCache(aFlagCache()))
			c.aws.Timing.Operation = slow
			c.until("a group", func() bool { return len(c.aws.Groups) == 1 })
			for !c.ready() {
				c.tick()
				g := c.group()
				usable := ack.GroupState(g) == ack.GroupAvailable && ack.ConditionsOf(g).Is(ack.ConditionReady) && ack.PrimaryEndpoint(g) != nil
				if c.last.ProbeNext != nil && !usable {
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
			for _, state := range states {
				if state == "throttled" {
					c.aws.Refuse("DescribeReplicationGroups", "Throttling", "Rate exceeded", 1)
				} else {
					c.alter(func(g *ackmodel.Group) { g.State, g.Done = state, c.now.Add(time.Hour) })
				}
				c.resync()
				c.runFor(20 * time.Second)
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
	c.alter(func(g *ackmodel.Group) { g.Primary = 1 })
	c.runFor(5 * time.Minute)
	c.resync()
	c.runFor(5 * time.Minute)
	if role := ack.Value(c.group().Status.NodeGroups[0].NodeGroupMembers[1].CurrentRole); role != "primary" {
		t.Errorf("the role of the second node is %q", role)
	}
	if c.readyFlipped > 0 || len(c.changedClasses) > 0 {
		t.Errorf("Ready flipped %d times, changes %v", c.readyFlipped, c.changedClasses)
	}
}

// ACK reports Ready=True for a group that AWS failed to create.
func TestCreateFailedIsNotReady(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.aws.FailCreations = 1
	c.until("the failure", c.hasReason(v1alpha1.ReasonCreateFailed))
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonCreateFailed)
	c.resync()
	if g := c.group(); !ack.ConditionsOf(g).Is(ack.ConditionReady) {
		t.Fatal("ACK does not report Ready")
	}
	c.reconcileOnce()
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonCreateFailed)
}

// ACK creates a group that it does not find again, empty, without reporting it; its
// creation time differs.
func TestRecreatedGroupIsAnEvent(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	_, aws := c.onlyGroup()
	before := *c.fc.Status.DeepCopy()
	c.outage = true
	c.aws.DeleteGroups()
	c.resync()
	c.tick()
	for ack.GroupState(c.group()) != ack.GroupAvailable {
		c.tick()
	}
	c.runFor(time.Minute)
	_, made := c.onlyGroup()
	if made.Created.Equal(aws.Created) {
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
		c.aws.Timing.Operation = time.Hour
		c.runFor(20 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonProvisioning)
		c.ackStopped = true
		c.runFor(6 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
	})
	t.Run("at a change just after a sync", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.resync()
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
	c.refuse("Throttling", "Rate exceeded", modifications...)
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
