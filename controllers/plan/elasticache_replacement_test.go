// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
)

// toRedis changes what AWS cannot change in place.
func toRedis(e *v1alpha1.ElastiCacheSpec) { e.Engine, e.EngineVersion = v1alpha1.EngineRedis, "7.1" }

func toValkey(e *v1alpha1.ElastiCacheSpec) { e.Engine, e.EngineVersion = v1alpha1.EngineValkey, "8.0" }

// startReplacement brings a replacement to its first step.
func startReplacement(c *cloud, edit func(*v1alpha1.ElastiCacheSpec)) (candidate string) {
	c.note("the spec has another cache")
	c.change(edit)
	c.until("the first step", func() bool { return c.weight() > 0 })
	return c.candidate()
}

// failCandidate has the candidate's lookups fail until it is rolled back and its group
// deleted.
func (c *cloud) failCandidate(candidate string) {
	c.setBad(candidate, canary.CacheHitRate, 1)
	c.until("the rollback", c.rolledBack)
	c.until("one group", func() bool { return len(c.aws.Groups) == 1 })
	clear(c.bad)
}

type cloudScenario struct {
	spec   func(*v1alpha1.FlagCache)
	script func(*cloud)
}

func replacementScenarios() map[string]cloudScenario {
	return map[string]cloudScenario{
		"promoted": {script: func(c *cloud) {
			candidate := startReplacement(c, toRedis)
			c.expectTwoCaches()
			c.until("the promotion", c.promoted(candidate))
			c.note("the old group stays for scaleDownDelay")
			c.runFor(4 * time.Minute)
			if len(c.aws.Groups) != 2 {
				c.t.Errorf("there are %d groups within the delay", len(c.aws.Groups))
			}
			c.until("the deletion of the old group", func() bool { return len(c.aws.Groups) == 1 })
			c.runFor(2 * time.Minute)
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.expectSilence()
		}},
		"promoted-with-a-last-snapshot": {
			spec: func(fc *v1alpha1.FlagCache) { fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot },
			script: func(c *cloud) {
				candidate := startReplacement(c, toRedis)
				c.until("the promotion", c.promoted(candidate))
				c.until("the deletion of the old group", func() bool { return len(c.aws.Groups) == 1 })
				c.runFor(2 * time.Minute)
				c.expectDeleted("ReplicationGroup", "Snapshot (retained)")
			},
		},
		"rolled-back": {script: func(c *cloud) {
			c.failCandidate(startReplacement(c, toRedis))
			c.note("it is not created again")
			c.runFor(time.Hour)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
			c.expectSilence()
		}},
		"rolled-back-and-retried": {script: func(c *cloud) {
			c.failCandidate(startReplacement(c, toRedis))
			c.note("the user requests a retry")
			c.retry()
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
			c.until("the deletion of the old group", func() bool { return len(c.aws.Groups) == 1 })
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		}},
		"rolled-back-again-after-a-retry": {script: func(c *cloud) {
			c.failCandidate(startReplacement(c, toRedis))
			c.note("the user requests a retry")
			c.retry()
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.failCandidate(c.candidate())
			c.runFor(time.Hour)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
			c.expectSilence()
		}},
		"rolled-back-and-another-size": {script: func(c *cloud) {
			c.failCandidate(startReplacement(c, toRedis))
			c.note("the same cache with larger nodes is another request")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
		}},
		"rolled-back-and-reverted": {script: func(c *cloud) {
			c.failCandidate(startReplacement(c, toRedis))
			c.note("the spec is reverted to the cache in use")
			c.change(toValkey)
			c.runFor(20 * time.Second)
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.runFor(time.Minute)
			c.expectSilence()
		}},
		"reverted-in-the-middle": {script: func(c *cloud) {
			startReplacement(c, toRedis)
			c.note("the spec is reverted")
			c.change(toValkey)
			c.runFor(20 * time.Second)
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.until("one group", func() bool { return len(c.aws.Groups) == 1 })
		}},
		"superseded-during-creation": {script: func(c *cloud) {
			c.aws.Timing.Operation = 10 * time.Minute
			c.note("the spec has another cache")
			c.change(toRedis)
			c.runFor(time.Minute)
			c.note("the spec has a third cache")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Region = "us-east-1" })
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
			c.until("one group", func() bool { return len(c.aws.Groups) == 1 })
		}},
		"superseded-during-the-canary": {script: func(c *cloud) {
			startReplacement(c, toRedis)
			c.note("the spec has a third cache")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Region = "us-east-1" })
			c.until("no share", func() bool { return c.weight() == 0 })
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
			c.until("one group", func() bool { return len(c.aws.Groups) == 1 })
		}},
		"from-in-cluster-and-back": {
			spec: func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.Type = v1alpha1.CacheInCluster },
			script: func(c *cloud) {
				c.note("the type changes to ElastiCache")
				c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache.Type = v1alpha1.CacheElastiCache })
				c.until("the first step", func() bool { return c.weight() > 0 })
				c.until("the promotion", c.promoted(c.candidate()))
				c.runFor(7 * time.Minute)
				c.note("the type changes back to InCluster")
				c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache.Type = v1alpha1.CacheInCluster })
				c.until("the first step", func() bool { return c.weight() > 0 })
				c.until("the promotion", c.promoted(c.candidate()))
				c.until("no group", func() bool { return len(c.aws.Groups) == 0 })
				c.runFor(time.Minute)
				c.expectSilence()
			},
		},
		"from-in-cluster-rolled-back": {
			spec: func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.Type = v1alpha1.CacheInCluster },
			script: func(c *cloud) {
				c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache.Type = v1alpha1.CacheElastiCache })
				c.until("the first step", func() bool { return c.weight() > 0 })
				c.setBad(c.candidate(), canary.CacheHitRate, 1)
				c.until("the rollback", c.rolledBack)
				c.until("no group", func() bool { return len(c.aws.Groups) == 0 })
				c.runFor(time.Hour)
				c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
				c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
				c.expectSilence()
			},
		},
		"creation-refused": {script: func(c *cloud) {
			c.note("the spec has another cache, which AWS refuses to create")
			c.refuse("InvalidParameterCombination", "no", "CreateReplicationGroup")
			c.change(toRedis)
			c.runFor(10 * time.Minute)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSRejected)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
		}},
	}
}

// expectTwoCaches checks that each revision has its own Secret, and that applications are
// bound to that of the stable revision.
func (c *cloud) expectTwoCaches() {
	c.t.Helper()
	uris := map[string]bool{}
	for _, child := range c.children {
		if secret, ok := child.(*corev1.Secret); ok && secret.Type == connection.SecretType && secret.Name != "demo-connection" {
			uris[string(secret.Data["uri"])] = true
		}
	}
	if len(uris) != 2 || len(c.aws.Groups) != 2 {
		c.t.Errorf("there are connections %v and %d groups", uris, len(c.aws.Groups))
	}
	connection, _ := connection.Of(c.index(), c.index().Revisions[c.stable()])
	if got := c.index().SecretValue("demo-connection", "uri").Reveal(); got != connection.URI().Reveal() {
		c.t.Errorf("applications are bound to %s, the stable revision uses %s", got, connection.URI().Reveal())
	}
}

func (c *cloud) expectDeleted(want ...string) {
	c.t.Helper()
	if got := strings.Join(c.deletedKinds, ", "); got != strings.Join(want, ", ") {
		c.t.Errorf("deleted are %s, want %s", got, strings.Join(want, ", "))
	}
}

// Each scenario is a replacement from its beginning to its end.
func TestReplacementScenarios(t *testing.T) {
	for name, scenario := range replacementScenarios() {
		t.Run(name, func(t *testing.T) {
			fc := withElastiCache(aFlagCache())
			if scenario.spec != nil {
				scenario.spec(fc)
			}
			c := aReadyCloud(t, fc, step(5, 2*time.Minute))
			c.name(c.stable())
			scenario.script(c)
			expectGolden(t, "replacement-"+name+".golden", strings.Join(c.trace, "\n")+"\n")
		})
	}
}
