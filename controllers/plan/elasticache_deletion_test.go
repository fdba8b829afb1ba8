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

// TestRetainMarksEverythingFirst: what ACK deletes it judges by the annotation at
// that time.
func TestRetainMarksEverythingFirst(t *testing.T) {
	fc := withEverything(aFlagCache())
	fc.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	c := aReadyCloud(t, fc)
	c.deletion()
	for !strings.Contains(c.condition(v1alpha1.ConditionReady).Message, "marked") {
		c.step()
	}
	if slices.Contains(c.gone, "MetricAlarm") {
		t.Error("alarms went before the cache was marked")
	}
	for _, child := range c.children {
		if o, ok := child.(ack.Object); ok && !isAlarm(child) && o.GetAnnotations()[ack.AnnotationDeletionPolicy] != ack.DeletionRetain {
			t.Errorf("%s is not marked", name(child))
		}
	}
	if g := c.group(); g.Annotations[v1alpha1.AnnotationChange] == "" || g.Spec.CacheNodeType == "" {
		t.Errorf("marking took away what was there: %v", g.Annotations)
	}
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
			c.expectMessage(v1alpha1.ConditionReady, "ReplicationGroup demo-", "to be gone. AWS refuses: ")
			if len(c.fc.Finalizers) == 0 || c.last.LookAgain != cacheRetry {
				t.Errorf("finalizers %v, next look in %s", c.fc.Finalizers, c.last.LookAgain)
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
	c.children = slices.DeleteFunc(c.children, func(o Object) bool { _, isACK := o.(ack.Object); return isACK })
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
	id := seeCache(c.snapshot(), cacheIdentity(c.fc)).awsID()
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
