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
)

// TestAQuotaIsAskedForAgain: ACK does not ask again by itself, so the description is
// changed every eight minutes.
func TestAQuotaIsAskedForAgain(t *testing.T) {
	quota := terminal("ClusterQuotaForCustomerExceeded: The request cannot be processed")
	t.Run("at the creation", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		c.refuse["ReplicationGroup"] = quota
		c.run(time.Minute)
		asked := c.asks(time.Hour)
		if asked < 6 || asked > 8 {
			t.Errorf("AWS was asked %d times in an hour", asked)
		}
		c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonAWSQuotaExceeded)
		c.recovers("ReplicationGroup")
	})
	t.Run("at a change", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.refuse["update"] = quota
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas, e.NodeType = 3, "cache.m5.large" })
		c.run(time.Minute)
		c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSQuotaExceeded)
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		if asked := c.asks(time.Hour); asked < 6 || asked > 8 {
			t.Errorf("AWS was asked %d times in an hour", asked)
		}
		for _, class := range c.applies[1:] {
			if class != "quiet" {
				t.Errorf("asking again changed %s", class)
			}
		}
		c.recovers("update")
	})
	t.Run("of what the group refers to", func(t *testing.T) {
		c := aCloud(t, withParameters(withElastiCache(aFlagCache()), "timeout", "5"))
		c.refuse["CacheParameterGroup"] = terminal("CacheParameterGroupQuotaExceeded: too many")
		c.run(time.Minute)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonAWSQuotaExceeded)
		c.recovers("CacheParameterGroup")
	})
	t.Run("a spec that needs none ends it", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.refuse["update"] = quota
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas = 3 })
		c.run(20 * time.Minute)
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas = 1 })
		c.look()
		delete(c.refuse, "update")
		c.run(5 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		c.expectSilence()
	})
}

// asks counts how often the group's spec changes.
func (c *cloud) asks(long time.Duration) int {
	changes, last := 0, c.group().Spec
	for end := c.now.Add(long); c.now.Before(end); {
		c.look()
		if now := c.group().Spec; !cmp.Equal(now, last) {
			changes, last = changes+1, now
		}
	}
	return changes
}

// recovers ends a refusal, which must be noticed within 15 minutes.
func (c *cloud) recovers(kind string) {
	c.t.Helper()
	delete(c.refuse, kind)
	from := c.now
	c.until("Ready", c.ready)
	if took := c.now.Sub(from); took > 15*time.Minute {
		c.t.Errorf("it took %s to notice that AWS does not refuse any more", took)
	}
	c.run(15 * time.Minute)
	c.expectSilence()
}

// TestAGroupThatFailsIsMadeAgain, after a pause that doubles, five times at the most.
func TestAGroupThatFailsIsMadeAgain(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.failing = 100
	var begun []time.Time
	for range 360 {
		had := len(c.groups)
		c.look()
		if len(c.groups) > had {
			begun = append(begun, c.now)
		}
	}
	if len(begun) != 5 {
		t.Fatalf("%d groups were made", len(begun))
	}
	for i := 2; i < len(begun); i++ {
		if before, pause := begun[i-1].Sub(begun[i-2]), begun[i].Sub(begun[i-1]); pause <= before {
			t.Errorf("the pause before group %d is %s, the one before that %s", i+1, pause, before)
		}
	}
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonCreateRetriesExhausted)
	c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonCreateRetriesExhausted)
	c.expectMessage(v1alpha1.ConditionReady, "5 times", "change the spec, or set the annotation flagcache.dev/reconcile-at")
	c.expectSilence()

	c.note("a person asks for another try, and that fails too")
	c.annotateFlagCache(v1alpha1.AnnotationReconcileAt, "now")
	c.until("another try", func() bool { return c.reason() == v1alpha1.ReasonCreateFailed })
	c.until("the end of it", c.says(v1alpha1.ReasonCreateRetriesExhausted))

	c.note("the spec changes, and AWS has mended what it had")
	c.failing = 0
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
	c.until("Ready", c.ready)
	c.run(3 * time.Minute)
	c.expectSilence()
}

// TestAFailureIsOnRecordBeforeItsGroupGoes: a crash between the two counts it once.
func TestAFailureIsOnRecordBeforeItsGroupGoes(t *testing.T) {
	c := aCloud(t, withElastiCache(aFlagCache()))
	c.failing = 1
	c.until("the failure", c.says(v1alpha1.ReasonCreateFailed))
	count := func() (recorded struct{ Count int }) {
		if err := json.Unmarshal([]byte(c.tokenSecret().Annotations[v1alpha1.AnnotationFailures]), &recorded); err != nil {
			t.Fatal(err)
		}
		return recorded
	}
	if g := c.group(); g.DeletionTimestamp != nil || count().Count != 1 {
		t.Errorf("the group is being deleted at %v, and %d failures are on record", g.DeletionTimestamp, count().Count)
	}
	none := 0
	c.crash = &none
	c.look()
	c.look()
	if g := c.group(); g.DeletionTimestamp == nil || count().Count != 1 {
		t.Errorf("the group is not being deleted, and %d failures are on record", count().Count)
	}
	c.until("Ready", c.ready)
}

// TestAGroupThatAUserDeletesIsMadeAgain: what was made once is made again.
func TestAGroupThatAUserDeletesIsMadeAgain(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.outage = true
	at := c.group().CreationTimestamp
	c.group().DeletionTimestamp = &at
	c.look()
	c.expectMessage(v1alpha1.ConditionCacheProvisioned, "is being deleted; it is created again")
	c.until("Ready", c.ready)
	if _, aws := c.only(); aws.state != ack.GroupAvailable {
		t.Errorf("AWS has a group that is %s", aws.state)
	}
}
