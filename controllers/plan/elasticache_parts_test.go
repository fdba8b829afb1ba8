// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// TestAMissingKindIsNamed, with what to install, and noticed when it comes.
func TestAMissingKindIsNamed(t *testing.T) {
	for _, kind := range ack.Kinds() {
		if kind.Kind == "Snapshot" {
			continue // asked for at the end only: TestTheLastSnapshotHoldsTheGroup
		}
		t.Run(kind.Kind, func(t *testing.T) {
			fc := withEverything(aFlagCache())
			fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
			c := aCloud(t, fc)
			delete(c.ack, kind.Kind)
			condition := v1alpha1.ConditionCacheProvisioned
			switch kind.Kind {
			case "MetricAlarm", "SecurityGroup":
				c.until("Ready all the same", c.ready)
				c.run(time.Minute)
				if kind.Kind == "MetricAlarm" {
					condition = v1alpha1.ConditionAlarmsConfigured
					c.expect(condition, "False", v1alpha1.ReasonACKNotInstalled)
				}
			default:
				c.run(time.Minute)
				c.expect(condition, "False", v1alpha1.ReasonACKNotInstalled)
				c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonACKNotInstalled)
			}
			c.expectMessage(condition, kind.CRD(), kind.Controller())
			c.expectSilence()
			for _, child := range c.children {
				if ack.KindOf(child).Kind == kind.Kind {
					t.Errorf("%s is asked for", name(child))
				}
			}
			c.ack[kind.Kind] = true
			c.until("Ready", c.ready)
			c.run(3 * time.Minute)
			if message := c.condition(condition).Message; strings.Contains(message, kind.CRD()) {
				t.Errorf("it still says %q", message)
			}
		})
	}
}

// TestDataTieringFollowsTheNodeType: AWS makes nodes of the family r6gd only with it,
// and changes no group from one to the other.
func TestDataTieringFollowsTheNodeType(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	for _, test := range []struct {
		nodeType        string
		tiered, another bool
	}{
		{"cache.r6g.xlarge", false, false},
		{"cache.r6gd.xlarge", true, true},
		{"cache.r6gd.2xlarge", true, false},
		{"cache.c7gn.xlarge", false, true},
	} {
		before := c.group().Spec.ReplicationGroupID
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = test.nodeType })
		c.run(20 * time.Minute)
		g, aws := c.only()
		if aws.spec.CacheNodeType != test.nodeType || aws.spec.DataTieringEnabled != test.tiered {
			t.Errorf("AWS has %s with data tiering %t", aws.spec.CacheNodeType, aws.spec.DataTieringEnabled)
		}
		if another := g.Spec.ReplicationGroupID != before; another != test.another || len(c.groups) != 1 {
			t.Errorf("for %s it is another group: %t; AWS has %d", test.nodeType, another, len(c.groups))
		}
	}
	if got := fmt.Sprint(c.applies); got != "[node node]" {
		t.Errorf("the changes in place are %s", got)
	}
	c.expectSilence()
}

// TestDailySnapshotsComeWithAnotherGroup, and go with one: AWS turns them on in none
// that began without.
func TestDailySnapshotsComeWithAnotherGroup(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	for _, test := range []struct {
		days    int64
		another bool
	}{{1, true}, {5, false}, {0, true}, {35, true}} {
		before := c.group().Spec.ReplicationGroupID
		c.change(func(e *v1alpha1.ElastiCacheSpec) {
			if e.Snapshots = nil; test.days > 0 {
				e.Snapshots = &v1alpha1.SnapshotsSpec{RetentionDays: int32(test.days)}
			}
		})
		c.run(20 * time.Minute)
		g, aws := c.only()
		if aws.spec.SnapshotRetentionLimit != test.days {
			t.Errorf("AWS keeps them for %d days, not %d", aws.spec.SnapshotRetentionLimit, test.days)
		}
		if another := g.Spec.ReplicationGroupID != before; another != test.another || len(c.groups) != 1 {
			t.Errorf("for %d days it is another group: %t; AWS has %d", test.days, another, len(c.groups))
		}
	}
	if got := fmt.Sprint(c.applies); got != "[quiet]" {
		t.Errorf("the changes in place are %s", got)
	}
	c.expectSilence()
}

// TestAKindThatGoesStopsNothing: a cache in use goes on.
func TestAKindThatGoesStopsNothing(t *testing.T) {
	c := aReadyCloud(t, withEverything(aFlagCache()))
	before, _ := c.only()
	groups := before.Spec.SecurityGroupIDs
	delete(c.ack, "SecurityGroup")
	c.children = without(c.children, mustFind[*ack.SecurityGroup](c.world, before.Name))
	c.run(5 * time.Minute)
	g, _ := c.only()
	if fmt.Sprint(g.Spec.SecurityGroupIDs) != fmt.Sprint(groups) || len(groups) != 1 || c.readyFlipped > 0 {
		t.Errorf("the security groups are %v, were %v; Ready flipped %d times", g.Spec.SecurityGroupIDs, groups, c.readyFlipped)
	}
	c.ack = map[string]bool{}
	c.children = without(c.children, observed.Object(g))
	c.outage = true
	c.run(time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonACKNotInstalled)
	c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
	c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
}

func TestAlarmsFollowTheSpec(t *testing.T) {
	fc := withEverything(aFlagCache())
	fc.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: 500, WhenExceeded: v1alpha1.BudgetWarn}
	c := aReadyCloud(t, fc)
	c.expect(v1alpha1.ConditionAlarmsConfigured, "True", v1alpha1.ReasonConfigured)
	alarms := func() map[string]*ack.MetricAlarm {
		found := map[string]*ack.MetricAlarm{}
		for _, child := range c.children {
			if a, ok := child.(*ack.MetricAlarm); ok {
				found[strings.TrimPrefix(a.Name, c.group().Name+"-")] = a
			}
		}
		return found
	}
	if n := len(alarms()); n != 11 {
		t.Errorf("two nodes have %d alarms, want five each and one on the charges", n)
	}
	if a := alarms()["001-cpu"]; a.Spec.MetricName != "CPUUtilization" || a.Spec.Threshold != 75 || a.Spec.AlarmActions[0] != "arn:aws:sns:us-east-1:1:t" {
		t.Errorf("the alarm on the processor is %+v", a.Spec)
	}
	if a := alarms()["charges"]; a.Spec.Threshold != 500 || a.Annotations[ack.AnnotationRegion] != "us-east-1" {
		t.Errorf("the alarm on the charges is %+v", a.Spec)
	}
	c.change(func(e *v1alpha1.ElastiCacheSpec) {
		e.NodeType, e.Replicas, e.MultiAZ = "cache.m5.xlarge", 0, v1alpha1.Disabled
	})
	c.run(20 * time.Minute)
	if n := len(alarms()); n != 5 {
		t.Errorf("one node has %d alarms, want four and one on the charges", n)
	}
	if a := alarms()["001-cpu"]; a.Spec.MetricName != "EngineCPUUtilization" {
		t.Errorf("the alarm on the processor of a large node is on %s", a.Spec.MetricName)
	}
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Alarms.TopicARN = "arn:aws:sns:eu-west-1:1:t" })
	c.run(time.Minute)
	if a := alarms()["charges"]; len(a.Spec.AlarmActions) > 0 || len(a.Spec.OKActions) > 0 {
		t.Errorf("the alarm on the charges tells a topic of another region, which AWS refuses: %+v", a.Spec)
	}
	if a := alarms()["001-cpu"]; len(a.Spec.AlarmActions) != 1 {
		t.Errorf("the alarm on the processor is %+v", a.Spec)
	}
	c.expect(v1alpha1.ConditionAlarmsConfigured, "True", v1alpha1.ReasonConfigured)
	c.expectMessage(v1alpha1.ConditionAlarmsConfigured, "The one on the account's charges notifies nobody", "us-east-1")
	c.expectSilence()
	c.refuse["MetricAlarm"] = recoverable("api error AccessDenied: no")
	clear(c.polls)
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Alarms.CPUPercent = 60 })
	c.run(time.Minute)
	c.expect(v1alpha1.ConditionAlarmsConfigured, "False", v1alpha1.ReasonAWSAccessDenied)
	c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	delete(c.refuse, "MetricAlarm")
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Alarms = nil })
	c.run(time.Minute)
	if len(alarms()) > 0 {
		t.Errorf("left are %v", alarms())
	}
}

func TestABudgetHoldsWhatCostsMore(t *testing.T) {
	refusing := func(usd int32) *v1alpha1.FlagCache {
		fc := withElastiCache(aFlagCache())
		fc.Spec.Cache.ElastiCache.Region = "us-east-1"
		fc.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: usd, WhenExceeded: v1alpha1.BudgetRefuse}
		return fc
	}
	t.Run("the creation", func(t *testing.T) {
		c := aCloud(t, refusing(10))
		c.run(2 * time.Minute)
		for _, child := range c.children {
			if child.GetLabels()[v1alpha1.LabelCache] != "" {
				t.Errorf("%s was made", name(child))
			}
		}
		c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonBudgetExceeded)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonBudgetExceeded)
		c.expectMessage(v1alpha1.ConditionReady, "19.86 USD a month, 9.86 more than the budget of 10.00")
		c.expectSilence()
		c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Budget.MonthlyUSD = 20 })
		c.until("Ready", c.ready)
	})
	t.Run("a replacement, of which both are paid for", func(t *testing.T) {
		c := aReadyCloud(t, refusing(30))
		c.change(toRedis)
		c.run(2 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonBudgetExceeded)
		c.expectMessage(v1alpha1.ConditionReady, "44.68 USD a month")
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		if len(c.groups) != 1 {
			t.Errorf("there are %d groups", len(c.groups))
		}
		c.change(toValkey)
		c.run(30 * time.Second)
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	})
}

// TestTheConnectionSecret follows what a probe has proved, and nothing else.
func TestTheConnectionSecret(t *testing.T) {
	moved := func(t *testing.T) (*cloud, string) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		before := c.index().SecretValue("demo-connection", "uri")
		g, aws := c.only()
		c.outage = true
		c.moves(g, aws, "elsewhere.example")
		return c, before
	}
	t.Run("an endpoint that moved is published once a probe came through", func(t *testing.T) {
		c, before := moved(t)
		c.run(5 * time.Minute)
		if now := c.index().SecretValue("demo-connection", "uri"); now == before || !strings.Contains(now, "@elsewhere.example:6379") {
			t.Errorf("it says %s", now)
		}
		if n := len(c.index().Revisions); n > 2 {
			t.Errorf("one change made %d revisions", n)
		}
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	})
	t.Run("one that does not answer is not", func(t *testing.T) {
		c, before := moved(t)
		_, aws := c.only()
		aws.tokens = []string{"unknown"}
		c.run(10 * time.Minute)
		if now := c.index().SecretValue("demo-connection", "uri"); now != before {
			t.Errorf("it says %s", now)
		}
	})
	t.Run("one that AWS takes back leaves the last good one", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		before := c.index().SecretValue("demo-connection", "uri")
		g, _ := c.only()
		g.Status.NodeGroups = nil
		c.run(5 * time.Minute)
		if now := c.index().SecretValue("demo-connection", "uri"); now != before || len(c.applies) > 0 {
			t.Errorf("it says %s", now)
		}
	})
	t.Run("an operator that starts again knows no answers", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.look()
		c.probe, c.nextProbe = observed.Probe{}, observed.Probe{}
		film := len(c.trace)
		c.reconcileOnce()
		if !c.ready() || len(c.trace) > film {
			t.Errorf("it changed: %v", c.trace[film:])
		}
		c.probe, c.nextProbe = observed.Probe{}, observed.Probe{}
		c.expectSilence()
	})
	t.Run("and an edit of it is undone", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		secret := mustFind[*corev1.Secret](c.world, "demo-connection")
		before := string(secret.Data["uri"])
		secret.Data["uri"], secret.Data["host"] = []byte("rediss://evil"), []byte("evil")
		c.reconcileOnce()
		if now := c.index().SecretValue("demo-connection", "uri"); now != before {
			t.Errorf("it says %s", now)
		}
	})
}

// moves gives a group's primary another name.
func (c *cloud) moves(g *ack.ReplicationGroup, aws *awsGroup, host string) {
	aws.host = host
	c.shows(g, aws, true)
}
