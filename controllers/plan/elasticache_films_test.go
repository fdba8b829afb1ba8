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

// toRedis asks for what AWS cannot change in place.
func toRedis(e *v1alpha1.ElastiCacheSpec) { e.Engine, e.EngineVersion = v1alpha1.EngineRedis, "7.1" }

func toValkey(e *v1alpha1.ElastiCacheSpec) { e.Engine, e.EngineVersion = v1alpha1.EngineValkey, "8.0" }

// onTrial brings a replacement to its first step.
func onTrial(c *cloud, edit func(*v1alpha1.ElastiCacheSpec)) (candidate string) {
	c.note("the spec asks for another cache")
	c.change(edit)
	c.until("the first step", func() bool { return c.weight() > 0 })
	return c.candidate()
}

// fails has the candidate's look-ups fail until it is rolled back and its group gone.
func (c *cloud) fails(candidate string) {
	c.setBad(candidate, canary.CacheHitRate, 1)
	c.until("the rollback", c.rolledBack)
	c.until("one group", func() bool { return len(c.groups) == 1 })
	clear(c.bad)
}

type cloudFilm struct {
	spec   func(*v1alpha1.FlagCache)
	script func(*cloud)
}

func replacementFilms() map[string]cloudFilm {
	return map[string]cloudFilm{
		"promoted": {script: func(c *cloud) {
			candidate := onTrial(c, toRedis)
			c.twoCaches()
			c.until("the promotion", c.promoted(candidate))
			c.note("the old group stays for as long as going back is meant to be easy")
			c.run(4 * time.Minute)
			if len(c.groups) != 2 {
				c.t.Errorf("there are %d groups within the delay", len(c.groups))
			}
			c.until("the old one to go", func() bool { return len(c.groups) == 1 })
			c.run(2 * time.Minute)
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.expectSilence()
		}},
		"promoted-with-a-last-snapshot": {
			spec: func(fc *v1alpha1.FlagCache) { fc.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot },
			script: func(c *cloud) {
				candidate := onTrial(c, toRedis)
				c.until("the promotion", c.promoted(candidate))
				c.until("the old one to go", func() bool { return len(c.groups) == 1 })
				c.run(2 * time.Minute)
				c.expectGone("ReplicationGroup", "Snapshot (retained)")
			},
		},
		"rolled-back": {script: func(c *cloud) {
			c.fails(onTrial(c, toRedis))
			c.note("it is not made again")
			c.run(time.Hour)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
			c.expectSilence()
		}},
		"rolled-back-and-retried": {script: func(c *cloud) {
			c.fails(onTrial(c, toRedis))
			c.note("a person says retry")
			c.retries()
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
			c.until("the old one to go", func() bool { return len(c.groups) == 1 })
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		}},
		"rolled-back-again-after-a-retry": {script: func(c *cloud) {
			c.fails(onTrial(c, toRedis))
			c.note("a person says retry")
			c.retries()
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.fails(c.candidate())
			c.run(time.Hour)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
			c.expectSilence()
		}},
		"rolled-back-and-another-size": {script: func(c *cloud) {
			c.fails(onTrial(c, toRedis))
			c.note("the same with larger nodes is something else")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
		}},
		"rolled-back-and-given-up": {script: func(c *cloud) {
			c.fails(onTrial(c, toRedis))
			c.note("the spec before is there already")
			c.change(toValkey)
			c.run(20 * time.Second)
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.run(time.Minute)
			c.expectSilence()
		}},
		"back-in-the-middle": {script: func(c *cloud) {
			onTrial(c, toRedis)
			c.note("the spec goes back")
			c.change(toValkey)
			c.run(20 * time.Second)
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.until("one group", func() bool { return len(c.groups) == 1 })
		}},
		"superseded-while-aws-makes-it": {script: func(c *cloud) {
			c.slow = 10 * time.Minute
			c.note("the spec asks for another cache")
			c.change(toRedis)
			c.run(time.Minute)
			c.note("and for a third")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Region = "us-east-1" })
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
			c.until("one group", func() bool { return len(c.groups) == 1 })
		}},
		"superseded-on-trial": {script: func(c *cloud) {
			onTrial(c, toRedis)
			c.note("the spec asks for a third cache")
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Region = "us-east-1" })
			c.until("no share", func() bool { return c.weight() == 0 })
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.until("the promotion", c.promoted(c.candidate()))
			c.until("one group", func() bool { return len(c.groups) == 1 })
		}},
		"from-in-cluster-and-back": {
			spec: func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.Type = v1alpha1.CacheInCluster },
			script: func(c *cloud) {
				c.note("the spec asks for ElastiCache")
				c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache.Type = v1alpha1.CacheElastiCache })
				c.until("the first step", func() bool { return c.weight() > 0 })
				c.until("the promotion", c.promoted(c.candidate()))
				c.run(7 * time.Minute)
				c.note("and for an in-cluster Redis again")
				c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache.Type = v1alpha1.CacheInCluster })
				c.until("the first step", func() bool { return c.weight() > 0 })
				c.until("the promotion", c.promoted(c.candidate()))
				c.until("no group", func() bool { return len(c.groups) == 0 })
				c.run(time.Minute)
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
				c.until("no group", func() bool { return len(c.groups) == 0 })
				c.run(time.Hour)
				c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
				c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
				c.expectSilence()
			},
		},
		"the-new-one-cannot-be-made": {script: func(c *cloud) {
			c.note("the spec asks for another cache, which AWS refuses")
			c.refuse["ReplicationGroup"] = terminal("InvalidParameterCombination: no")
			c.change(toRedis)
			c.run(10 * time.Minute)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSRejected)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
		}},
	}
}

// twoCaches checks that each revision has its own Secret, and that applications are
// bound to the one that serves.
func (c *cloud) twoCaches() {
	c.t.Helper()
	uris := map[string]bool{}
	for _, child := range c.children {
		if secret, ok := child.(*corev1.Secret); ok && secret.Type == connection.SecretType && secret.Name != "demo-connection" {
			uris[string(secret.Data["uri"])] = true
		}
	}
	if len(uris) != 2 || len(c.groups) != 2 {
		c.t.Errorf("there are the connections %v to %d groups", uris, len(c.groups))
	}
	connection, _ := connection.Of(c.index(), c.index().Revisions[c.stable()])
	if got := c.index().SecretValue("demo-connection", "uri"); got != connection.URI() {
		c.t.Errorf("applications are bound to %s, the revision that serves uses %s", got, connection.URI())
	}
}

func (c *cloud) expectGone(want ...string) {
	c.t.Helper()
	if got := strings.Join(c.gone, ", "); got != strings.Join(want, ", ") {
		c.t.Errorf("gone are %s, want %s", got, strings.Join(want, ", "))
	}
}

// A film is a replacement from its beginning to its end.
func TestReplacementFilms(t *testing.T) {
	for name, film := range replacementFilms() {
		t.Run(name, func(t *testing.T) {
			fc := withElastiCache(aFlagCache())
			if film.spec != nil {
				film.spec(fc)
			}
			c := aReadyCloud(t, fc, step(5, 2*time.Minute))
			c.name(c.stable())
			film.script(c)
			expectGolden(t, "replacement-"+name+".golden", strings.Join(c.trace, "\n")+"\n")
		})
	}
}
