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
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// withEverything needs each kind that FlagCache creates in AWS.
func withEverything(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	e := withParameters(withElastiCache(fc), "timeout", "5").Spec.Cache.ElastiCache
	e.SubnetIDs, e.VPCID, e.ClientSecurityGroupIDs = []v1alpha1.SubnetID{"subnet-1"}, "vpc-1", []v1alpha1.SecurityGroupID{"sg-1"}
	e.Alarms = &v1alpha1.AlarmsSpec{CPUPercent: 75, MemoryPercent: 80, EvictionsPerFiveMinutes: 100, TopicARN: "arn:aws:sns:us-east-1:1:t"}
	return fc
}

// deleteFlagCache deletes the FlagCache and runs until the finalizer is removed.
func (c *cloud) deleteFlagCache() {
	c.t.Helper()
	c.startDeletion()
	for range 360 {
		if len(c.fc.Finalizers) == 0 {
			return
		}
		c.tickDeleting()
	}
	c.t.Fatalf("the finalizer is not removed: %s", c.condition(v1alpha1.ConditionReady).Message)
}

func (c *cloud) startDeletion() {
	at := metav1.NewTime(c.now)
	c.fc.DeletionTimestamp = &at
}

// tickDeleting is a tick with a FlagCache that is being deleted.
func (c *cloud) tickDeleting() {
	c.now = c.now.Add(interval)
	c.syncAll()
	before := names(c.children)
	c.last = c.reconcile()
	for _, n := range before {
		if !slices.Contains(names(c.children), n) && strings.HasPrefix(n, "Deployment") {
			c.deletedKinds = append(c.deletedKinds, "Deployment")
		}
	}
}

// deletionOrder is the order of the deleted kinds, each once.
func (c *cloud) deletionOrder() []string { return slices.Compact(slices.Clone(c.deletedKinds)) }

func TestDeletionIsInOrder(t *testing.T) {
	for policy, want := range map[v1alpha1.DeletionPolicy][]string{
		v1alpha1.DeletionDelete:   {"Deployment", "MetricAlarm", "ReplicationGroup", "parts"},
		v1alpha1.DeletionSnapshot: {"Deployment", "MetricAlarm", "ReplicationGroup", "parts", "Snapshot (retained)"},
		v1alpha1.DeletionRetain:   {"Deployment", "MetricAlarm", "ReplicationGroup (retained)", "parts"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			fc := withEverything(aFlagCache())
			fc.Spec.DeletionPolicy = policy
			c := aReadyCloud(t, fc)
			c.deleteFlagCache()
			var order []string
			for _, kind := range c.deletionOrder() {
				if strings.HasPrefix(kind, "Cache") || strings.HasPrefix(kind, "Security") {
					kind = "parts"
				}
				order = append(order, kind)
			}
			if got := slices.Compact(order); !slices.Equal(got, want) {
				t.Errorf("deleted are %v, want %v", got, want)
			}
			if len(c.children) > 0 {
				t.Errorf("left are %v", names(c.children))
			}
			if kept := len(c.aws.Groups) == 1; kept != (policy == v1alpha1.DeletionRetain) {
				t.Errorf("AWS has %d groups", len(c.aws.Groups))
			}
		})
	}
}

func TestDeletionWithIAM(t *testing.T) {
	fc := withElastiCache(aFlagCache())
	fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
	c := aReadyCloud(t, fc)
	c.deleteFlagCache()
	if got, want := c.deletionOrder(), []string{"Deployment", "ReplicationGroup", "UserGroup", "User"}; !slices.Equal(got, want) {
		t.Errorf("deleted are %v, want %v", got, want)
	}
}

// expectRetention checks that all of ACK's objects that may be retained are annotated, or
// none.
func (c *cloud) expectRetention(retained bool) {
	c.t.Helper()
	for _, child := range c.children {
		if o := child; ack.Is(o) && (o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain) != (retained && !isAlarm(child)) {
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

func (c *cloud) setDeletionPolicy(policy v1alpha1.DeletionPolicy) {
	c.edit(func(s *v1alpha1.FlagCacheSpec) { s.DeletionPolicy = policy })
}

// The deletion of a namespace deletes its objects in any order, and ACK follows the
// annotation at that time.
func TestRetainIsAnnotatedFromTheBeginning(t *testing.T) {
	for name, fc := range map[string]*v1alpha1.FlagCache{"with everything": withEverything(aFlagCache()), "with users": withIAM(aFlagCache())} {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, retaining(fc))
			for !c.ready() {
				c.tick()
				c.expectRetention(true)
			}
			c.runFor(3 * time.Minute)
			c.expectSilence()
			c.setDeletionPolicy(v1alpha1.DeletionSnapshot)
			c.tick()
			c.expectRetention(false)
			c.setDeletionPolicy(v1alpha1.DeletionRetain)
			c.tick()
			c.expectRetention(true)
			c.runFor(time.Minute)
			if len(c.changedClasses) > 0 {
				t.Errorf("the group was changed: %v", c.changedClasses)
			}
		})
	}
}

// The policy may change together with the deletion.
func TestRetentionFollowsThePolicyOnDeletion(t *testing.T) {
	for policy, left := range map[v1alpha1.DeletionPolicy]int{v1alpha1.DeletionRetain: 1, v1alpha1.DeletionDelete: 0, v1alpha1.DeletionSnapshot: 0} {
		t.Run(string(policy), func(t *testing.T) {
			fc := withEverything(aFlagCache())
			if left == 0 {
				retaining(fc)
			}
			c := aReadyCloud(t, fc)
			c.setDeletionPolicy(policy)
			c.startDeletion()
			for step := 0; !strings.Contains(c.condition(v1alpha1.ConditionReady).Message, "annotated"); step++ {
				if step == 100 {
					t.Fatalf("nothing is annotated: %s", c.condition(v1alpha1.ConditionReady).Message)
				}
				c.tickDeleting()
			}
			if slices.Contains(c.deletedKinds, "MetricAlarm") {
				t.Error("alarms were deleted before the cache was annotated")
			}
			c.expectRetention(left > 0)
			if g := c.group(); g.Annotations[v1alpha1.AnnotationChange] == "" || ack.Value(g.Spec.CacheNodeType) == "" {
				t.Errorf("annotating removed other annotations: %v", g.Annotations)
			}
			c.deleteFlagCache()
			if len(c.aws.Groups) != left || len(c.children) > 0 {
				t.Errorf("AWS has %d groups, Kubernetes %v", len(c.aws.Groups), names(c.children))
			}
		})
	}
}

// The policy is for the deletion of the FlagCache.
func TestReplacedCacheIsNotRetained(t *testing.T) {
	expectOne := func(c *cloud) {
		c.t.Helper()
		if len(c.aws.Groups) != 1 || slices.ContainsFunc(c.deletedKinds, func(kind string) bool { return strings.Contains(kind, "retained") }) {
			c.t.Errorf("AWS has %d groups; deleted are %v", len(c.aws.Groups), c.deletedKinds)
		}
		c.expectRetention(true)
		c.expectSilence()
	}
	t.Run("a cache", func(t *testing.T) {
		c := aReadyCloud(t, retaining(withEverything(aFlagCache())))
		c.change(toRedis)
		c.runFor(20 * time.Minute)
		expectOne(c)
	})
	t.Run("a parameter group of another family", func(t *testing.T) {
		c := aReadyCloud(t, retaining(withEverything(aFlagCache())))
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.EngineVersion = "9.0" })
		c.runFor(20 * time.Minute)
		expectOne(c)
		if !slices.Contains(c.deletedKinds, "CacheParameterGroup") {
			t.Errorf("deleted are %v", c.deletedKinds)
		}
	})
	t.Run("a group that AWS failed to create", func(t *testing.T) {
		c := aCloud(t, retaining(withElastiCache(aFlagCache())))
		c.aws.FailCreations = 1
		c.until("Ready", c.ready)
		expectOne(c)
	})
	t.Run("what a user annotated is retained", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.startDeletion()
		for c.group().DeletionTimestamp == nil {
			c.group().Annotations[ack.AnnotationDeletionPolicy] = ack.DeletionRetain
			c.tickDeleting()
		}
		c.deleteFlagCache()
		if len(c.aws.Groups) != 1 {
			t.Errorf("AWS has %d groups", len(c.aws.Groups))
		}
	})
}

// The cache in use is not that of the spec, and nothing else of it is applied.
func TestRetentionFollowsThePolicyDuringAReplacement(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.refuse("ClusterQuotaForCustomerExceeded", "too many", "CreateReplicationGroup")
	c.change(toRedis)
	c.runFor(time.Minute)
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete} {
		c.setDeletionPolicy(policy)
		c.tick()
		if n := len(observed.All[*ack.ReplicationGroup](c.index())); n != 2 {
			t.Fatalf("there are %d groups", n)
		}
		c.expectRetention(policy == v1alpha1.DeletionRetain)
	}
	c.expectSilence()
}

func TestRefusedDeletionIsReportedAndRetried(t *testing.T) {
	for _, code := range []string{"InvalidReplicationGroupState", "AccessDenied"} {
		t.Run(code, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			c.refuse(code, "not now", "DeleteReplicationGroup")
			c.startDeletion()
			for range 60 {
				c.tickDeleting()
			}
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonDeleting)
			c.expectMessage(v1alpha1.ConditionReady, "ReplicationGroup demo-", "to be deleted. AWS refuses: ")
			if len(c.fc.Finalizers) == 0 || c.last.RequeueAfter != teardownInterval {
				t.Errorf("finalizers %v, next reconcile in %s", c.fc.Finalizers, c.last.RequeueAfter)
			}
			c.aws.Permit()
			c.deleteFlagCache()
		})
	}
}

func TestGroupWaitsForTheLastSnapshot(t *testing.T) {
	deleting := func(t *testing.T) *cloud {
		fc := withElastiCache(aFlagCache())
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		c := aReadyCloud(t, fc)
		c.startDeletion()
		return c
	}
	expectWaiting := func(c *cloud, long time.Duration, parts ...string) {
		c.t.Helper()
		for range long / interval {
			c.tickDeleting()
		}
		c.expectMessage(v1alpha1.ConditionReady, parts...)
		if g := c.group(); g.DeletionTimestamp != nil {
			c.t.Error("the group is deleted without a snapshot")
		}
	}
	t.Run("a quota refuses it", func(t *testing.T) {
		c := deleting(t)
		c.refuse("SnapshotQuotaExceededFault", "too many snapshots", "CreateSnapshot")
		expectWaiting(c, time.Hour, "the last snapshot to be taken", "AWS refuses: SnapshotQuotaExceededFault: too many snapshots. Next: raise the quota")
		c.aws.Permit()
		c.deleteFlagCache()
	})
	t.Run("it is of a node, whatever order AWS names them in", func(t *testing.T) {
		c := deleting(t)
		c.refuse("Throttling", "Rate exceeded", "CreateSnapshot")
		expectWaiting(c, time.Minute, "the last snapshot to be taken")
		requested, ok := observed.Get[*ack.Snapshot](c.index(), c.group().Name)
		if nodes := c.group().Status.MemberClusters; !ok || *requested.Spec.CacheClusterID != *nodes[len(nodes)-1] {
			t.Fatalf("of the nodes %v the snapshot is %+v", nodes, requested)
		}
		slices.Reverse(c.group().Status.MemberClusters)
		node := *requested.Spec.CacheClusterID
		expectWaiting(c, time.Minute, "the last snapshot to be taken")
		if again, ok := observed.Get[*ack.Snapshot](c.index(), c.group().Name); !ok || *again.Spec.CacheClusterID != node {
			t.Errorf("it is of %s first and then of %+v", node, again)
		}
	})
	t.Run("its kind is missing", func(t *testing.T) {
		c := deleting(t)
		delete(c.ack, "Snapshot")
		expectWaiting(c, 5*time.Minute, "snapshots.elasticache.services.k8s.aws", "elasticache-controller")
		c.ack["Snapshot"] = true
		c.deleteFlagCache()
	})
	t.Run("AWS never created the group", func(t *testing.T) {
		fc := withElastiCache(aFlagCache())
		fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
		c := aCloud(t, fc)
		c.aws.Timing.Operation = 10 * time.Minute
		c.runFor(time.Minute)
		c.deleteFlagCache() // AWS deletes no group that it is creating: ACK retries
		if slices.Contains(c.deletionOrder(), "Snapshot (retained)") {
			t.Error("a snapshot was taken of a group without nodes")
		}
	})
}

func TestDeletionAtEachStepLeavesNothing(t *testing.T) {
	for at := range 20 {
		c := aCloud(t, withEverything(aFlagCache()))
		for range at + 1 {
			c.tick()
		}
		c.deleteFlagCache()
		if len(c.children) > 0 || len(c.aws.Groups) > 0 {
			t.Errorf("deleted after tick %d: left are %v, and %d groups", at, names(c.children), len(c.aws.Groups))
		}
	}
}

// The objects of the kinds were deleted with them.
func TestUninstalledACKDoesNotBlockDeletion(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.ack = nil
	c.children = slices.DeleteFunc(c.children, func(o observed.Object) bool { return ack.Is(o) })
	c.deleteFlagCache()
}
