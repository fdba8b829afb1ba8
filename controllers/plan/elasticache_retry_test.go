// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
)

// ACK does not retry by itself, so the description is changed every eight minutes.
func TestExceededQuotaIsRetried(t *testing.T) {
	refuse := func(c *cloud, actions ...string) {
		c.refuse("ClusterQuotaForCustomerExceeded", "The request cannot be processed", actions...)
	}
	t.Run("at the creation", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		refuse(c, "CreateReplicationGroup")
		c.runFor(time.Minute)
		attempts := c.countAttempts(time.Hour)
		if attempts < 6 || attempts > 8 {
			t.Errorf("there were %d attempts in an hour", attempts)
		}
		c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonAWSQuotaExceeded)
		c.endRefusal()
	})
	t.Run("at a change", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		refuse(c, modifications...)
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas, e.NodeType = 3, "cache.m5.large" })
		c.runFor(time.Minute)
		c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSQuotaExceeded)
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		if attempts := c.countAttempts(time.Hour); attempts < 6 || attempts > 8 {
			t.Errorf("there were %d attempts in an hour", attempts)
		}
		if d := cmp.Diff([]string{"node", "replicas"}, c.changedClasses); d != "" {
			t.Errorf("a retry changes the spec (-want +got):\n%s", d)
		}
		c.endRefusal()
	})
	t.Run("of a dependency", func(t *testing.T) {
		c := aCloud(t, withParameters(withElastiCache(aFlagCache()), "timeout", "5"))
		c.refuse("CacheParameterGroupQuotaExceeded", "too many", "CreateCacheParameterGroup")
		c.runFor(time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonAWSQuotaExceeded)
		c.endRefusal()
	})
	t.Run("of what a group in use is to refer to", func(t *testing.T) {
		c := aReadyCloud(t, withParameters(withElastiCache(aFlagCache()), "timeout", "5"))
		c.refuse("CacheParameterGroupQuotaExceeded", "too many", "CreateCacheParameterGroup")
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.EngineVersion = "9.0" })
		c.runFor(time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonAWSQuotaExceeded)
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		if c.last.RequeueAfter == 0 {
			t.Error("there is no reconcile to retry it")
		}
		c.endRefusal()
		if _, aws := c.onlyGroup(); *aws.Spec.EngineVersion != "9.0.0" || len(c.aws.ParameterGroups) != 1 {
			t.Errorf("AWS has version %s and %d parameter groups", *aws.Spec.EngineVersion, len(c.aws.ParameterGroups))
		}
	})
	t.Run("of another user", func(t *testing.T) {
		c := aReadyCloud(t, withIAM(aFlagCache()))
		before := len(c.aws.Users)
		c.refuse("UserQuotaExceeded", "too many", "CreateUser")
		c.tokenSecret().Data[elasticache.TokenKey] = []byte("another-password")
		c.runFor(20 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSQuotaExceeded)
		c.endRefusal()
		if len(c.aws.Users) != before {
			t.Errorf("AWS has %d users, had %d", len(c.aws.Users), before)
		}
	})
	t.Run("until the spec is reverted", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		refuse(c, modifications...)
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas = 3 })
		c.runFor(20 * time.Minute)
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas = 1 })
		c.tick()
		c.aws.Permit()
		c.runFor(5 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		c.expectSilence()
	})
}

// countAttempts counts how often the group's spec changes.
func (c *cloud) countAttempts(long time.Duration) int {
	changes, last := 0, c.group().Spec
	for end := c.now.Add(long); c.now.Before(end); {
		c.tick()
		if now := c.group().Spec; !cmp.Equal(now, last) {
			changes, last = changes+1, now
		}
	}
	return changes
}

// endRefusal ends a refusal, which must take effect within 15 minutes.
func (c *cloud) endRefusal() {
	c.t.Helper()
	c.aws.Permit()
	from := c.now
	c.until("Ready", c.ready)
	if took := c.now.Sub(from); took > 15*time.Minute {
		c.t.Errorf("it took %s until Ready", took)
	}
	c.runFor(15 * time.Minute)
	c.expectSilence()
}

// The pause doubles, and there are at most five attempts.
func TestFailedGroupIsCreatedAgain(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.aws.FailCreations = 100
	var created []time.Time
	for range 360 {
		had := len(c.aws.Groups)
		c.tick()
		if len(c.aws.Groups) > had {
			created = append(created, c.now)
		}
	}
	if len(created) != 5 {
		t.Fatalf("%d groups were created", len(created))
	}
	for i := 2; i < len(created); i++ {
		if before, pause := created[i-1].Sub(created[i-2]), created[i].Sub(created[i-1]); pause <= before {
			t.Errorf("the pause before group %d is %s, the previous one %s", i+1, pause, before)
		}
	}
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonCreateRetriesExhausted)
	c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonCreateRetriesExhausted)
	c.expectMessage(v1alpha1.ConditionReady, "5 times", "change the spec, or set the annotation flagcache.dev/reconcile-at")
	c.expectSilence()

	c.note("the user requests a retry, which fails too")
	c.annotateFlagCache(v1alpha1.AnnotationReconcileAt, "now")
	c.until("the retry", func() bool { return c.reason() == v1alpha1.ReasonCreateFailed })
	c.until("the end of the retries", c.hasReason(v1alpha1.ReasonCreateRetriesExhausted))

	c.note("the spec changes, and AWS has recovered")
	c.aws.FailCreations = 0
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
	c.until("Ready", c.ready)
	c.runFor(3 * time.Minute)
	c.expectSilence()
}

// A crash between the two counts the failure once.
func TestFailureIsRecordedBeforeItsGroupIsDeleted(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.aws.FailCreations = 1
	c.until("the failure", c.hasReason(v1alpha1.ReasonCreateFailed))
	count := func() (recorded struct{ Count int }) {
		if err := json.Unmarshal([]byte(c.tokenSecret().Annotations[v1alpha1.AnnotationFailures]), &recorded); err != nil {
			t.Fatal(err)
		}
		return recorded
	}
	if g := c.group(); g.DeletionTimestamp != nil || count().Count != 1 {
		t.Errorf("the group is being deleted at %v, and %d failures are recorded", g.DeletionTimestamp, count().Count)
	}
	none := 0
	c.crash = &none
	c.tick()
	c.tick()
	if g := c.group(); g.DeletionTimestamp == nil || count().Count != 1 {
		t.Errorf("the group is not being deleted, and %d failures are recorded", count().Count)
	}
	c.until("Ready", c.ready)
}

func TestGroupDeletedByAUserIsCreatedAgain(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.outage = true
	c.remove(c.group())
	c.tick()
	c.expectMessage(v1alpha1.ConditionCacheProvisioned, "is being deleted; it is created again")
	c.until("Ready", c.ready)
	if _, aws := c.onlyGroup(); aws.State != ack.GroupAvailable {
		t.Errorf("AWS has a group that is %s", aws.State)
	}
}
