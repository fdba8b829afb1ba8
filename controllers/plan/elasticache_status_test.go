// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// TestReadyComesLast replays the creation of ack.md section 5: the group is usable
// when AWS says available, ACK says Ready, there is an endpoint, and a probe with
// exactly these bytes came through.
func TestReadyComesLast(t *testing.T) {
	for name, slow := range map[string]time.Duration{"a fast AWS": 10 * time.Second, "a slow AWS": 25 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, withElastiCache(aFlagCache()))
			c.slow = slow
			c.until("a group", func() bool { return len(c.groups) == 1 })
			for !c.ready() {
				c.look()
				g, aws := c.only()
				usable := g.Status.State == ack.GroupAvailable && g.Status.Is(ack.ConditionReady) && g.PrimaryEndpoint() != nil
				if c.last.ProbeNext != nil && !usable && c.last.ProbeNext.Connection.Host != aws.host {
					t.Fatalf("what is not there is probed: %v", c.last.ProbeNext)
				}
				if provisioned := c.reason() == v1alpha1.ReasonProvisioned; provisioned && (!usable || len(c.proved) == 0) {
					t.Fatalf("the cache is provisioned while the group is %s", g.Status.State)
				}
				if c.reason() == v1alpha1.ReasonACKNotResponding {
					t.Fatalf("a slow AWS is taken for an ACK that does not respond")
				}
			}
			c.run(3 * time.Minute)
			c.expectSilence()
			if c.readyFlipped > 0 {
				t.Errorf("Ready flipped %d times", c.readyFlipped)
			}
		})
	}
}

// TestReadyStaysThroughWhatAWSDoes: nothing that AWS does to a group in use by itself
// changes Ready or CacheHealthy of a FlagCache whose probes come through.
func TestReadyStaysThroughWhatAWSDoes(t *testing.T) {
	for name, states := range map[string][]string{
		"snapshotting":             {ack.GroupSnapshotting, ack.GroupSnapshotting, ack.GroupAvailable},
		"modifying":                {ack.GroupModifying, ack.GroupModifying, ack.GroupAvailable},
		"a word that nobody knows": {"rebalancing", ack.GroupAvailable},
		"one after the other":      {ack.GroupModifying, ack.GroupSnapshotting, ack.GroupModifying, ack.GroupAvailable},
		"throttled meanwhile":      {ack.GroupModifying, "throttled", ack.GroupModifying, ack.GroupAvailable},
	} {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			g, aws := c.only()
			for _, state := range states {
				if state == "throttled" {
					c.conditions(g, recoverable("api error Throttling: Rate exceeded")...)
				} else {
					aws.state = state
					c.shows(g, aws, false)
				}
				c.run(20 * time.Second)
				g, aws = c.only()
			}
			c.run(5 * time.Minute)
			if c.readyFlipped > 0 || !c.ready() {
				t.Errorf("Ready flipped %d times", c.readyFlipped)
			}
			if len(c.applies) > 0 {
				t.Errorf("the group was changed: %v", c.applies)
			}
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
		})
	}
}

// TestReadyStaysThroughAFailover: roles move, the primary's name stays, and ACK
// hears of it ten hours later.
func TestReadyStaysThroughAFailover(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	g, _ := c.only()
	g.Status.NodeGroups[0].NodeGroupMembers = []ack.NodeGroupMember{{CacheClusterID: "001", CurrentRole: "replica"}, {CacheClusterID: "002", CurrentRole: "primary"}}
	c.run(5 * time.Minute)
	if c.readyFlipped > 0 || len(c.applies) > 0 {
		t.Errorf("Ready flipped %d times, changes %v", c.readyFlipped, c.applies)
	}
}

// TestAGroupThatFailedToBeMadeIsNotReady: ACK says Ready=True of it.
func TestAGroupThatFailedToBeMadeIsNotReady(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.failing = 1
	c.until("the failure", c.says(v1alpha1.ReasonCreateFailed))
	if g := c.group(); !g.Status.Is(ack.ConditionReady) {
		t.Fatal("ACK does not say Ready")
	}
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonCreateFailed)
}

// TestAGroupMadeAnewIsTold: ACK makes a group that it does not find, empty, and says
// nothing; its creation time tells.
func TestAGroupMadeAnewIsTold(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	g, aws := c.only()
	before := *c.fc.Status.DeepCopy()
	c.outage = true
	delete(c.groups, g.Spec.ReplicationGroupID)
	c.creates(g)
	g.Status.ReplicationGroupCreateTime = nil // AWS says it when the group is there
	c.look()
	for c.group().Status.State != ack.GroupAvailable {
		c.look()
	}
	c.run(time.Minute)
	_, made := c.only()
	if made.made.Equal(&aws.made) {
		t.Fatal("it was not made anew")
	}
	var told []string
	for _, e := range Transitions(before, c.fc.Status) {
		told = append(told, e.Reason)
	}
	if len(told) != 1 || told[0] != v1alpha1.ReasonRecreated {
		t.Errorf("the events are %v", told)
	}
	if !c.ready() {
		t.Error("it is not Ready again")
	}
}

// TestAStuckACKIsToldFromASlowAWS: what ACK has not looked at for five minutes is
// ACK's business; a group that takes AWS long is not.
func TestAStuckACKIsToldFromASlowAWS(t *testing.T) {
	t.Run("from the beginning", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		c.stopped = true
		c.run(4 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonProvisioning)
		c.run(2 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		c.expectMessage(v1alpha1.ConditionCacheProvisioned, "ReplicationGroup demo-", "elasticache-controller")
		c.stopped = false
		c.until("Ready", c.ready)
	})
	t.Run("at what the group refers to", func(t *testing.T) {
		fc := withElastiCache(aFlagCache())
		fc.Spec.Cache.ElastiCache.SubnetIDs = []v1alpha1.SubnetID{"subnet-1", "subnet-2"}
		c := aCloud(t, fc)
		c.stopped = true
		c.run(6 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		if c.last.RequeueAfter == 0 {
			t.Error("nobody looks again to find that out")
		}
	})
	t.Run("while AWS makes the group", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		c.slow = time.Hour
		c.run(20 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonProvisioning)
		c.stopped = true
		c.run(6 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
	})
	t.Run("at a change just after it looked", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		g, aws := c.only()
		c.shows(g, aws, true)
		c.stopped = true
		c.now = c.now.Add(interval)
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
		for range 20 {
			c.run(10 * time.Second)
			c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonModifying)
		}
		c.run(5 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		c.stopped = false
		c.until("Ready", c.ready)
		c.expectSilence()
	})
	t.Run("at a change", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.stopped = true
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
		c.run(4 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		c.run(2 * time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKNotResponding)
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		c.stopped = false
		c.until("Ready", c.ready)
	})
	t.Run("at rest it has nothing to do", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.stopped = true
		c.run(time.Hour)
		c.expectSilence()
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	})
}
