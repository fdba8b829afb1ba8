// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// tokenSecret is the Secret of the only cache.
func (c *cloud) tokenSecret() *corev1.Secret {
	c.t.Helper()
	return mustFind[*corev1.Secret](c.world, c.fc.Name+"-cache-"+elasticache.Identity(c.fc))
}

func (c *cloud) token() string { return string(c.tokenSecret().Data[elasticache.TokenKey]) }

// published is the token in the Secret that applications bind to.
func (c *cloud) published() string {
	return c.index().SecretValue("demo-connection", connection.PasswordKey).Reveal()
}

// rotated reports whether everybody uses a token other than the old one, and nothing is in
// progress.
func (c *cloud) rotated(old string) func() bool {
	return func() bool {
		return c.token() != old && c.published() == c.token() && c.ready() && c.candidate() == "" && len(c.index().Revisions) == 1
	}
}

// rotate requests a rotation.
func (c *cloud) rotate(how string) {
	c.note("a new value of the annotation requests a rotation")
	c.annotateFlagCache(v1alpha1.AnnotationRotateToken, how)
}

// rotationScenarios: at each tick no pod uses a token that AWS does not accept.
func rotationScenarios() map[string]func(*cloud) {
	return map[string]func(*cloud){
		"by-annotation": func(c *cloud) {
			old := c.token()
			c.rotate("1")
			c.until("the rotation", c.rotated(old))
			_, aws := c.onlyGroup()
			if aws.Tokens != (ackmodel.Tokens{c.token(), old}) {
				c.t.Errorf("AWS accepts %v", aws.Tokens)
			}
			c.note("the same value requests nothing more")
			c.runFor(time.Hour)
			c.expectSilence()
		},
		"by-schedule": func(c *cloud) {
			c.change(func(e *v1alpha1.ElastiCacheSpec) {
				e.Authentication.RotationInterval = &metav1.Duration{Duration: 2 * time.Hour}
			})
			for range 2 {
				old := c.token()
				c.tick()
				if c.last.RequeueAfter <= 0 || c.last.RequeueAfter > 2*time.Hour {
					c.t.Errorf("the next reconcile is in %s", c.last.RequeueAfter)
				}
				c.until("the rotation", c.rotated(old))
			}
		},
		"rolled-back": func(c *cloud) {
			old := c.token()
			c.rotate("1")
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.setBad(c.candidate(), canary.CacheHitRate, 1)
			c.until("the rollback", c.rolledBack)
			clear(c.bad)
			c.note("no further rotation: AWS would forget the token in use")
			c.rotate("2")
			c.runFor(time.Hour)
			if c.last.RequeueAfter != 0 && c.last.RequeueAfter < 10*time.Second {
				c.t.Errorf("the next reconcile is in %s", c.last.RequeueAfter)
			}
			if _, aws := c.onlyGroup(); c.published() != old || aws.Tokens[1] != old {
				c.t.Errorf("applications have %s, AWS accepts %v, old is %s", c.published(), aws.Tokens, old)
			}
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonRolledBack)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			c.note("retried")
			c.retry()
			c.until("the rotation", c.rotated(old))
		},
		"requested-again-in-the-middle": func(c *cloud) {
			old := c.token()
			c.rotate("1")
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.rotate("2")
			first := c.token()
			c.runFor(time.Minute)
			if c.token() != first {
				c.t.Error("a token is rotated while a revision uses the previous one")
			}
			c.until("the rotation", func() bool { return c.rotated(old)() && c.token() != first })
		},
		"while-the-group-changes": func(c *cloud) {
			old := c.token()
			c.aws.Timing.Operation = 5 * time.Minute
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
			c.tick()
			c.rotate("1")
			c.runFor(2 * time.Minute)
			if c.token() != old {
				c.t.Error("the token is rotated while AWS modifies the group")
			}
			c.until("the rotation", c.rotated(old))
		},
		"secret-deleted": func(c *cloud) {
			old := c.token()
			c.note("the Secret is deleted: it is created with the same token")
			c.children = without(c.children, c.tokenSecret())
			c.runFor(5 * time.Minute)
			if c.token() != old {
				c.t.Errorf("the token is %s, was %s", c.token(), old)
			}
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
			c.expectSilence()
		},
		"secret-edited": func(c *cloud) {
			old := c.token()
			c.note("the Secret is edited: a rotation to that token")
			c.tokenSecret().Data[elasticache.TokenKey] = []byte("chosen-by-a-user")
			c.until("the rotation", c.rotated(old))
			if c.published() != "chosen-by-a-user" {
				c.t.Errorf("applications have %s", c.published())
			}
		},
		"secret-edited-in-the-middle": func(c *cloud) {
			old := c.token()
			c.rotate("1")
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.note("the Secret is edited while AWS accepts two tokens: the one in use is kept")
			c.tokenSecret().Data[elasticache.TokenKey] = []byte("chosen-by-a-user")
			c.runFor(5 * time.Minute)
			if _, aws := c.onlyGroup(); c.published() != old || c.token() != old {
				c.t.Errorf("the token is %s, AWS accepts %v, old is %s", c.token(), aws.Tokens, old)
			}
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		},
		"secret-deleted-in-the-middle": func(c *cloud) {
			old := c.token()
			c.rotate("1")
			c.until("the first step", func() bool { return c.weight() > 0 })
			c.children = without(c.children, c.tokenSecret())
			c.runFor(10 * time.Minute)
			if c.published() != c.token() || c.published() != old {
				c.t.Errorf("applications have %s, the token is %s, old is %s", c.published(), c.token(), old)
			}
		},
		"refused": func(c *cloud) {
			old := c.token()
			c.refuse("InvalidParameterValue", "no", modifications...)
			c.rotate("1")
			c.runFor(10 * time.Minute)
			c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSRejected)
			c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
			if c.published() != old {
				c.t.Errorf("applications have %s", c.published())
			}
		},
	}
}

func TestRotationScenarios(t *testing.T) {
	for name, script := range rotationScenarios() {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()), step(5, 2*time.Minute))
			c.name(c.stable())
			script(c)
			expectGolden(t, "rotation-"+name+".golden", strings.Join(c.trace, "\n")+"\n")
		})
	}
}

// Whichever reconcile loses all of its writes but the first, the rotation has the same
// result, and no pod ever has a token that AWS does not accept.
func TestRotationSurvivesACrashAtEachStep(t *testing.T) {
	reconciles := 0
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	old := c.token()
	c.rotate("1")
	c.until("the rotation", func() bool { reconciles++; return c.rotated(old)() })
	for at := range reconciles + 1 {
		t.Run(fmt.Sprintf("reconcile %d", at), func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			old := c.token()
			c.rotate("1")
			for range at {
				c.tick()
			}
			written := 1
			c.crash = &written
			c.tick()
			c.until("the rotation", c.rotated(old))
			c.runFor(3 * time.Minute)
			c.expectSilence()
			g, aws := c.onlyGroup()
			if aws.Tokens != (ackmodel.Tokens{c.token(), old}) || elasticache.TokenMark(*g.Spec.Description) != observed.Fingerprint(c.fc.UID, "token", c.token()) {
				t.Errorf("AWS accepts %v, the Secret has %s, the group %q", aws.Tokens, c.token(), *g.Spec.Description)
			}
		})
	}
}

// A reconcile of the same snapshot writes the same token, and one of what was written
// writes no other.
func TestRepeatedReconcileRotatesOnce(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.rotate("1")
	c.reconcileOnce()
	token := c.token()
	for range 5 {
		c.now = c.now.Add(time.Second)
		c.reconcileOnce()
		if c.token() != token {
			t.Fatalf("another token was generated: %s, %s", token, c.token())
		}
	}
}

func TestReplacementSurvivesACrashAtEachStep(t *testing.T) {
	done := func(c *cloud) func() bool {
		return func() bool { return c.ready() && len(c.aws.Groups) == 1 && len(c.index().Revisions) == 1 }
	}
	reconciles := 0
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.change(toRedis)
	c.tick()
	c.until("the replacement", func() bool { reconciles++; return done(c)() })
	for at := range reconciles + 1 {
		t.Run(fmt.Sprintf("reconcile %d", at), func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			c.change(toRedis)
			for range at {
				c.tick()
			}
			written := 1
			c.crash = &written
			c.tick()
			c.tick()
			c.until("the replacement", done(c))
			c.runFor(3 * time.Minute)
			c.expectSilence()
			if _, aws := c.onlyGroup(); *aws.Spec.Engine != "redis" || aws.State != ack.GroupAvailable {
				t.Errorf("AWS has a %s group that is %s", *aws.Spec.Engine, aws.State)
			}
		})
	}
}
