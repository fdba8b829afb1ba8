// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// withEverything asks for each kind that FlagCache makes in AWS.
func withEverything(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	e := withParameters(withElastiCache(fc), "timeout", "5").Spec.Cache.ElastiCache
	e.SubnetIDs, e.VPCID, e.ClientSecurityGroupIDs = []v1alpha1.SubnetID{"subnet-1"}, "vpc-1", []v1alpha1.SecurityGroupID{"sg-1"}
	e.Alarms = &v1alpha1.AlarmsSpec{CPUPercent: 75, MemoryPercent: 80, EvictionsPerFiveMinutes: 100, TopicARN: "arn:aws:sns:us-east-1:1:t"}
	return fc
}

// deleted deletes the FlagCache and has everybody do what is theirs until the
// finalizer goes.
func (c *cloud) deleted() {
	c.t.Helper()
	c.deletion()
	for range 360 {
		if len(c.fc.Finalizers) == 0 {
			return
		}
		c.step()
	}
	c.t.Fatalf("the finalizer stays: %s", c.condition(v1alpha1.ConditionReady).Message)
}

func (c *cloud) deletion() {
	at := metav1.NewTime(c.now)
	c.fc.DeletionTimestamp = &at
}

// step is a look at a FlagCache that is being deleted.
func (c *cloud) step() {
	c.now = c.now.Add(interval)
	c.ackLooks()
	before := names(c.children)
	c.last = c.reconcile()
	for _, n := range before {
		if !slices.Contains(names(c.children), n) && strings.HasPrefix(n, "Deployment") {
			c.gone = append(c.gone, "Deployment")
		}
	}
}

// order of what went, each kind once.
func (c *cloud) order() []string { return slices.Compact(slices.Clone(c.gone)) }

func TestDeletionTakesTheCacheDownInOrder(t *testing.T) {
	for policy, want := range map[v1alpha1.DeletionPolicy][]string{
		v1alpha1.DeletionDelete:   {"Deployment", "MetricAlarm", "ReplicationGroup", "parts"},
		v1alpha1.DeletionSnapshot: {"Deployment", "MetricAlarm", "ReplicationGroup", "parts", "Snapshot (retained)"},
		v1alpha1.DeletionRetain:   {"Deployment", "MetricAlarm", "ReplicationGroup (retained)", "parts"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			fc := withEverything(aFlagCache())
			fc.Spec.DeletionPolicy = policy
			c := aReadyCloud(t, fc)
			c.deleted()
			var order []string
			for _, kind := range c.order() {
				if strings.HasPrefix(kind, "Cache") || strings.HasPrefix(kind, "Security") {
					kind = "parts"
				}
				order = append(order, kind)
			}
			if got := slices.Compact(order); !slices.Equal(got, want) {
				t.Errorf("gone are %v, want %v", got, want)
			}
			if len(c.children) > 0 {
				t.Errorf("left are %v", names(c.children))
			}
			if kept := len(c.groups) == 1; kept != (policy == v1alpha1.DeletionRetain) {
				t.Errorf("AWS has %d groups", len(c.groups))
			}
		})
	}
}

func TestDeletionWithIAM(t *testing.T) {
	fc := withElastiCache(aFlagCache())
	fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
	c := aReadyCloud(t, fc)
	c.deleted()
	if got, want := c.order(), []string{"Deployment", "ReplicationGroup", "UserGroup", "User"}; !slices.Equal(got, want) {
		t.Errorf("gone are %v, want %v", got, want)
	}
}

// expectMarks checks that all of ACK's objects that last are marked, or none.
func (c *cloud) expectMarks(retained bool) {
	c.t.Helper()
	for _, child := range c.children {
		if o, ok := child.(ack.Object); ok && (o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain) != (retained && !isAlarm(child)) {
			c.t.Errorf("the deletion policy of %s is %q", name(child), o.GetAnnotations()[ack.AnnotationDeletionPolicy])
		}
	}
}

func isAlarm(o observed.Object) bool {
	_, ok := o.(*ack.MetricAlarm)
	return ok
}

// retaining has deletionPolicy Retain.
func retaining(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	return fc
}

func (c *cloud) keeps(policy v1alpha1.DeletionPolicy) {
	c.edit(func(s *v1alpha1.FlagCacheSpec) { s.DeletionPolicy = policy })
}

// TestRetainIsMarkedFromTheBeginning: a namespace that is deleted takes what is in it
// in any order, and ACK judges by the mark at that time.
func TestRetainIsMarkedFromTheBeginning(t *testing.T) {
	for name, fc := range map[string]*v1alpha1.FlagCache{"with everything": withEverything(aFlagCache()), "with users": withIAM(aFlagCache())} {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, retaining(fc))
			for !c.ready() {
				c.look()
				c.expectMarks(true)
			}
			c.run(3 * time.Minute)
			c.expectSilence()
			c.keeps(v1alpha1.DeletionSnapshot)
			c.look()
			c.expectMarks(false)
			c.keeps(v1alpha1.DeletionRetain)
			c.look()
			c.expectMarks(true)
			c.run(time.Minute)
			if len(c.applies) > 0 {
				t.Errorf("AWS was asked for changes of %v", c.applies)
			}
		})
	}
}

// TestMarksFollowThePolicyInTheEnd: also where it changed with the deletion.
func TestMarksFollowThePolicyInTheEnd(t *testing.T) {
	for policy, left := range map[v1alpha1.DeletionPolicy]int{v1alpha1.DeletionRetain: 1, v1alpha1.DeletionDelete: 0, v1alpha1.DeletionSnapshot: 0} {
		t.Run(string(policy), func(t *testing.T) {
			fc := withEverything(aFlagCache())
			if left == 0 {
				retaining(fc)
			}
			c := aReadyCloud(t, fc)
			c.keeps(policy)
			c.deletion()
			for step := 0; !strings.Contains(c.condition(v1alpha1.ConditionReady).Message, "annotated"); step++ {
				if step == 100 {
					t.Fatalf("nothing is annotated: %s", c.condition(v1alpha1.ConditionReady).Message)
				}
				c.step()
			}
			if slices.Contains(c.gone, "MetricAlarm") {
				t.Error("alarms went before the cache was marked")
			}
			c.expectMarks(left > 0)
			if g := c.group(); g.Annotations[v1alpha1.AnnotationChange] == "" || g.Spec.CacheNodeType == "" {
				t.Errorf("marking took away what was there: %v", g.Annotations)
			}
			c.deleted()
			if len(c.groups) != left || len(c.children) > 0 {
				t.Errorf("AWS has %d groups, Kubernetes %v", len(c.groups), names(c.children))
			}
		})
	}
}

// TestWhatWasReplacedIsNotRetained: the policy is about the FlagCache's deletion.
func TestWhatWasReplacedIsNotRetained(t *testing.T) {
	expectOne := func(c *cloud) {
		c.t.Helper()
		if len(c.groups) != 1 || slices.ContainsFunc(c.gone, func(kind string) bool { return strings.Contains(kind, "retained") }) {
			c.t.Errorf("AWS has %d groups; gone are %v", len(c.groups), c.gone)
		}
		c.expectMarks(true)
		c.expectSilence()
	}
	t.Run("a cache", func(t *testing.T) {
		c := aReadyCloud(t, retaining(withEverything(aFlagCache())))
		c.change(toRedis)
		c.run(20 * time.Minute)
		expectOne(c)
	})
	t.Run("a parameter group of another family", func(t *testing.T) {
		c := aReadyCloud(t, retaining(withEverything(aFlagCache())))
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.EngineVersion = "9.0" })
		c.run(20 * time.Minute)
		expectOne(c)
		if !slices.Contains(c.gone, "CacheParameterGroup") {
			t.Errorf("gone are %v", c.gone)
		}
	})
	t.Run("a group that AWS failed to create", func(t *testing.T) {
		c := aCloud(t, retaining(withElastiCache(aFlagCache())))
		c.failing = 1
		c.until("Ready", c.ready)
		expectOne(c)
	})
	t.Run("what a person marked stays", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.deletion()
		for c.group().DeletionTimestamp == nil {
			c.group().Annotations[ack.AnnotationDeletionPolicy] = ack.DeletionRetain
			c.step()
		}
		c.deleted()
		if len(c.groups) != 1 {
			t.Errorf("AWS has %d groups", len(c.groups))
		}
	})
}

// TestMarksWhileACacheIsReplaced: the one that serves is not what the spec asks for,
// and nothing else of it is written.
func TestMarksWhileACacheIsReplaced(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.refuse["ReplicationGroup"] = terminal("ClusterQuotaForCustomerExceeded: too many")
	c.change(toRedis)
	c.run(time.Minute)
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete} {
		c.keeps(policy)
		c.look()
		if n := len(observed.All[*ack.ReplicationGroup](c.index())); n != 2 {
			t.Fatalf("there are %d groups", n)
		}
		c.expectMarks(policy == v1alpha1.DeletionRetain)
	}
	c.expectSilence()
}

func TestARefusedDeletionIsShownAndGoesOn(t *testing.T) {
	for name, refusal := range map[string][]ack.Condition{
		"modifying":     recoverable("api error InvalidReplicationGroupState: Replication group is modifying"),
		"no permission": recoverable("api error AccessDenied: not authorized to perform elasticache:DeleteReplicationGroup"),
	} {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			c.refuse["delete ReplicationGroup"] = refusal
			c.deletion()
			for range 60 {
				c.step()
			}
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonDeleting)
			c.expectMessage(v1alpha1.ConditionReady, "ReplicationGroup demo-", "to be deleted. AWS refuses: ")
			if len(c.fc.Finalizers) == 0 || c.last.RequeueAfter != teardownInterval {
				t.Errorf("finalizers %v, next look in %s", c.fc.Finalizers, c.last.RequeueAfter)
			}
			delete(c.refuse, "delete ReplicationGroup")
			c.deleted()
		})
	}
}

func TestTheLastSnapshotHoldsTheGroup(t *testing.T) {
	deleting := func(t *testing.T) *cloud {
		fc := withElastiCache(aFlagCache())
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		c := aReadyCloud(t, fc)
		c.deletion()
		return c
	}
	held := func(c *cloud, long time.Duration, words ...string) {
		c.t.Helper()
		for range long / interval {
			c.step()
		}
		c.expectMessage(v1alpha1.ConditionReady, words...)
		if g := c.group(); g.DeletionTimestamp != nil {
			c.t.Error("the group is deleted without a snapshot")
		}
	}
	t.Run("a quota refuses it", func(t *testing.T) {
		c := deleting(t)
		c.refuse["Snapshot"] = terminal("SnapshotQuotaExceededFault: too many snapshots")
		held(c, time.Hour, "the last snapshot to be taken", "AWS refuses: SnapshotQuotaExceededFault: too many snapshots. Next: raise the quota")
		delete(c.refuse, "Snapshot")
		c.deleted()
	})
	t.Run("it is of a node, whatever order AWS names them in", func(t *testing.T) {
		c := deleting(t)
		c.refuse["Snapshot"] = recoverable("api error Throttling: Rate exceeded")
		held(c, time.Minute, "the last snapshot to be taken")
		asked, ok := observed.Get[*ack.Snapshot](c.index(), c.group().Name)
		if nodes := c.group().Status.MemberClusters; !ok || asked.Spec.CacheClusterID != nodes[len(nodes)-1] {
			t.Fatalf("of the nodes %v the snapshot is %+v", nodes, asked)
		}
		slices.Reverse(c.group().Status.MemberClusters)
		node := asked.Spec.CacheClusterID
		held(c, time.Minute, "the last snapshot to be taken")
		if again, ok := observed.Get[*ack.Snapshot](c.index(), c.group().Name); !ok || again.Spec.CacheClusterID != node {
			t.Errorf("it is of %s first and then of %+v", node, again)
		}
	})
	t.Run("its kind is missing", func(t *testing.T) {
		c := deleting(t)
		delete(c.ack, "Snapshot")
		held(c, 5*time.Minute, "snapshots.elasticache.services.k8s.aws", "elasticache-controller")
		c.ack["Snapshot"] = true
		c.deleted()
	})
	t.Run("there never was anything to take it of", func(t *testing.T) {
		fc := withElastiCache(aFlagCache())
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		c := aCloud(t, fc)
		c.slow = time.Hour
		c.run(time.Minute)
		c.slow = time.Minute
		c.deleted()
	})
}

// TestDeletionAtEveryLook: whenever a FlagCache is deleted, all that it made goes.
func TestDeletionAtEveryLook(t *testing.T) {
	for at := range 20 {
		c := aCloud(t, withEverything(aFlagCache()))
		for range at + 1 {
			c.look()
		}
		c.deleted()
		if len(c.children) > 0 || len(c.groups) > 0 {
			t.Errorf("after look %d: left are %v, and %d groups", at, names(c.children), len(c.groups))
		}
	}
}

// TestACKThatIsGoneHoldsNothing: with the kinds went all objects of them.
func TestACKThatIsGoneHoldsNothing(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.ack = nil
	c.children = slices.DeleteFunc(c.children, func(o observed.Object) bool { _, isACK := o.(ack.Object); return isACK })
	c.deleted()
}

// TestALaterFlagCacheTakesOver what an earlier one of its name left in AWS, once a
// person says so.
func TestALaterFlagCacheTakesOver(t *testing.T) {
	fc := withEverything(aFlagCache())
	fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	earlier := aReadyCloud(t, fc)
	earlier.deleted()

	later := withEverything(aFlagCache())
	later.UID = "uid-2"
	c := aCloud(t, later)
	c.groups, c.parts, c.now = earlier.groups, earlier.parts, earlier.now
	c.until("a word about it", c.says(v1alpha1.ReasonAlreadyExists))
	c.run(10 * time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAlreadyExists)
	c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonAlreadyExists)
	id := "fc-shop-demo-" + elasticache.Identity(c.fc)
	c.expectMessage(v1alpha1.ConditionReady, "flagcache.dev/adopt="+id)
	for _, aws := range c.groups {
		if len(aws.tokens) != 1 {
			t.Errorf("the group of somebody else was changed: %v", aws.tokens)
		}
	}
	c.annotateFlagCache(v1alpha1.AnnotationAdopt, "another")
	c.run(time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAlreadyExists)
	c.annotateFlagCache(v1alpha1.AnnotationAdopt, id)
	c.until("Ready", c.ready)
	if len(c.groups) != 1 {
		t.Errorf("AWS has %d groups", len(c.groups))
	}
	c.run(10 * time.Minute)
	c.expectSilence()
}
