// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// The message has what to install, and the kind is noticed when it is installed.
func TestMissingKindIsReported(t *testing.T) {
	for _, kind := range ack.Kinds() {
		if kind.Kind == "Snapshot" {
			continue // needed on deletion only: TestGroupWaitsForTheLastSnapshot
		}
		t.Run(kind.Kind, func(t *testing.T) {
			fc := withEverything(aFlagCache())
			fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
			c := aCloud(t, fc)
			delete(c.ack, kind.Kind)
			condition := v1alpha1.ConditionCacheProvisioned
			switch kind.Kind {
			case "MetricAlarm", "SecurityGroup":
				c.until("Ready without it", c.ready)
				c.runFor(time.Minute)
				if kind.Kind == "MetricAlarm" {
					condition = v1alpha1.ConditionAlarmsConfigured
					c.expect(condition, "False", v1alpha1.ReasonACKNotInstalled)
				}
			default:
				c.runFor(time.Minute)
				c.expect(condition, "False", v1alpha1.ReasonACKNotInstalled)
				c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonACKNotInstalled)
			}
			c.expectMessage(condition, kind.CRD(), kind.Controller())
			c.expectSilence()
			for _, child := range c.children {
				if ack.KindOf(child).Kind == kind.Kind {
					t.Errorf("%s is created", name(child))
				}
			}
			c.ack[kind.Kind] = true
			c.until("Ready", c.ready)
			c.runFor(3 * time.Minute)
			if message := c.condition(condition).Message; strings.Contains(message, kind.CRD()) {
				t.Errorf("the message is still %q", message)
			}
		})
	}
}

// AWS creates nodes of the family r6gd only with data tiering, and changes no group from
// one to the other.
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
		before := *c.group().Spec.ReplicationGroupID
		c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = test.nodeType })
		c.runFor(20 * time.Minute)
		g, aws := c.onlyGroup()
		if *aws.Spec.CacheNodeType != test.nodeType || ack.Value(aws.Spec.DataTieringEnabled) != test.tiered {
			t.Errorf("AWS has %s with data tiering %t", *aws.Spec.CacheNodeType, ack.Value(aws.Spec.DataTieringEnabled))
		}
		if another := *g.Spec.ReplicationGroupID != before; another != test.another || len(c.aws.Groups) != 1 {
			t.Errorf("for %s it is another group: %t; AWS has %d", test.nodeType, another, len(c.aws.Groups))
		}
	}
	if got := fmt.Sprint(c.changedClasses); got != "[node node]" {
		t.Errorf("the changes in place are %s", got)
	}
	c.expectSilence()
}

// AWS enables daily snapshots only in a group that was created with them.
func TestDailySnapshotsReplaceTheGroup(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	for _, test := range []struct {
		days    int64
		another bool
	}{{1, true}, {5, false}, {0, true}, {35, true}} {
		before := *c.group().Spec.ReplicationGroupID
		c.change(func(e *v1alpha1.ElastiCacheSpec) {
			if e.Snapshots = nil; test.days > 0 {
				e.Snapshots = &v1alpha1.SnapshotsSpec{RetentionDays: int32(test.days)}
			}
		})
		c.runFor(20 * time.Minute)
		g, aws := c.onlyGroup()
		if *aws.Spec.SnapshotRetentionLimit != test.days {
			t.Errorf("AWS keeps them for %d days, not %d", *aws.Spec.SnapshotRetentionLimit, test.days)
		}
		if another := *g.Spec.ReplicationGroupID != before; another != test.another || len(c.aws.Groups) != 1 {
			t.Errorf("for %d days it is another group: %t; AWS has %d", test.days, another, len(c.aws.Groups))
		}
	}
	if got := fmt.Sprint(c.changedClasses); got != "[quiet]" {
		t.Errorf("the changes in place are %s", got)
	}
	c.expectSilence()
}

// A cache in use goes on serving.
func TestUninstalledKindDoesNotAffectServing(t *testing.T) {
	c := aReadyCloud(t, withEverything(aFlagCache()))
	before, _ := c.onlyGroup()
	groups := ack.Values(before.Spec.SecurityGroupIDs)
	delete(c.ack, "SecurityGroup")
	c.children = without(c.children, mustFind[*ack.SecurityGroup](c.world, before.Name))
	c.runFor(5 * time.Minute)
	g, _ := c.onlyGroup()
	if fmt.Sprint(ack.Values(g.Spec.SecurityGroupIDs)) != fmt.Sprint(groups) || len(groups) != 1 || c.readyFlipped > 0 {
		t.Errorf("the security groups are %v, were %v; Ready flipped %d times", ack.Values(g.Spec.SecurityGroupIDs), groups, c.readyFlipped)
	}
	c.ack = map[string]bool{}
	c.children = without(c.children, observed.Object(g))
	c.outage = true
	c.runFor(time.Minute)
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
	c.runFor(20 * time.Minute)
	if n := len(alarms()); n != 5 {
		t.Errorf("one node has %d alarms, want four and one on the charges", n)
	}
	if a := alarms()["001-cpu"]; a.Spec.MetricName != "EngineCPUUtilization" {
		t.Errorf("the alarm on the processor of a large node is on %s", a.Spec.MetricName)
	}
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Alarms.TopicARN = "arn:aws:sns:eu-west-1:1:t" })
	c.runFor(time.Minute)
	if a := alarms()["charges"]; len(a.Spec.AlarmActions) > 0 || len(a.Spec.OKActions) > 0 {
		t.Errorf("the alarm on the charges has a topic of another region, which AWS refuses: %+v", a.Spec)
	}
	if a := alarms()["001-cpu"]; len(a.Spec.AlarmActions) != 1 {
		t.Errorf("the alarm on the processor is %+v", a.Spec)
	}
	c.expect(v1alpha1.ConditionAlarmsConfigured, "True", v1alpha1.ReasonConfigured)
	c.expectMessage(v1alpha1.ConditionAlarmsConfigured, "The one on the account's charges notifies nobody", "us-east-1")
	c.expectSilence()
	c.refuse("AccessDenied", "no", "CreateMetricAlarm")
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Replicas = 1 })
	c.runFor(time.Minute)
	c.expect(v1alpha1.ConditionAlarmsConfigured, "False", v1alpha1.ReasonAWSAccessDenied)
	c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	c.aws.Permit()
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Alarms = nil })
	c.runFor(time.Minute)
	if len(alarms()) > 0 {
		t.Errorf("left are %v", alarms())
	}
}

func TestBudgetHoldsCostlierChanges(t *testing.T) {
	refusing := func(usd int32) *v1alpha1.FlagCache {
		fc := withElastiCache(aFlagCache())
		fc.Spec.Cache.ElastiCache.Region = "us-east-1"
		fc.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: usd, WhenExceeded: v1alpha1.BudgetRefuse}
		return fc
	}
	t.Run("the creation", func(t *testing.T) {
		c := aCloud(t, refusing(10))
		c.runFor(2 * time.Minute)
		for _, child := range c.children {
			if child.GetLabels()[v1alpha1.LabelCache] != "" {
				t.Errorf("%s was created", name(child))
			}
		}
		c.expect(v1alpha1.ConditionStalled, "True", v1alpha1.ReasonBudgetExceeded)
		c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonBudgetExceeded)
		c.expectMessage(v1alpha1.ConditionReady, "19.86 USD a month, 9.86 more than the budget of 10.00")
		c.expectSilence()
		c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Budget.MonthlyUSD = 20 })
		c.until("Ready", c.ready)
	})
	t.Run("a replacement, of which both caches are billed", func(t *testing.T) {
		c := aReadyCloud(t, refusing(30))
		c.change(toRedis)
		c.runFor(2 * time.Minute)
		c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonBudgetExceeded)
		c.expectMessage(v1alpha1.ConditionReady, "44.68 USD a month")
		c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
		if len(c.aws.Groups) != 1 {
			t.Errorf("there are %d groups", len(c.aws.Groups))
		}
		c.change(toValkey)
		c.runFor(30 * time.Second)
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	})
}

// The Secret has a connection with which a probe succeeded, and nothing else.
func TestConnectionSecret(t *testing.T) {
	moved := func(t *testing.T) (*cloud, string) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		before := c.index().SecretValue("demo-connection", "uri").Reveal()
		c.outage = true
		c.alter(func(g *ackmodel.Group) { g.Host = "elsewhere.example" })
		c.resync()
		return c, before
	}
	t.Run("an endpoint that moved is published once a probe succeeded", func(t *testing.T) {
		c, before := moved(t)
		c.runFor(5 * time.Minute)
		if now := c.index().SecretValue("demo-connection", "uri").Reveal(); now == before || !strings.Contains(now, "@elsewhere.example:6379") {
			t.Errorf("it has %s", now)
		}
		if n := len(c.index().Revisions); n > 2 {
			t.Errorf("one change caused %d revisions", n)
		}
		c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	})
	t.Run("one that does not answer is not published", func(t *testing.T) {
		c, before := moved(t)
		c.alter(func(g *ackmodel.Group) { g.Tokens = ackmodel.AcceptOnly("unknown") })
		c.runFor(10 * time.Minute)
		if now := c.index().SecretValue("demo-connection", "uri").Reveal(); now != before {
			t.Errorf("it has %s", now)
		}
	})
	t.Run("one that AWS removes leaves the last good one", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		before := c.index().SecretValue("demo-connection", "uri").Reveal()
		g, _ := c.onlyGroup()
		g.Status.NodeGroups = nil
		c.runFor(5 * time.Minute)
		if now := c.index().SecretValue("demo-connection", "uri").Reveal(); now != before || len(c.changedClasses) > 0 {
			t.Errorf("it has %s", now)
		}
	})
	t.Run("an operator that restarts has no results of probes", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		c.tick()
		c.probe, c.nextProbe = observed.Probe{}, observed.Probe{}
		frames := len(c.trace)
		c.reconcileOnce()
		if !c.ready() || len(c.trace) > frames {
			t.Errorf("it changed: %v", c.trace[frames:])
		}
		c.probe, c.nextProbe = observed.Probe{}, observed.Probe{}
		c.expectSilence()
	})
	t.Run("nor does one that restarts while nothing is applied", func(t *testing.T) {
		c := aCloud(t, withElastiCache(aFlagCache()))
		c.until("the first probe", c.hasReason(v1alpha1.ReasonVerifying))
		c.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true })
		c.until("its result", c.hasReason(v1alpha1.ReasonProvisioned))
		c.runFor(time.Minute)
		c.probe, c.nextProbe = observed.Probe{}, observed.Probe{}
		before := c.fc.Status.DeepCopy()
		c.reconcileOnce()
		if d := cmp.Diff(*before, c.fc.Status); d != "" {
			t.Errorf("the status changed (-before +after):\n%s", d)
		}
		if c.last.ProbeNext == nil {
			t.Error("the connection is not probed again")
		}
		c.alter(func(g *ackmodel.Group) { g.Tokens = ackmodel.AcceptOnly("unknown") })
		c.tick()
		c.tick()
		if reason := c.reason(); reason != v1alpha1.ReasonVerifying {
			t.Errorf("after another probe has failed the reason is %s", reason)
		}
	})
	t.Run("an edit is reverted", func(t *testing.T) {
		c := aReadyCloud(t, withElastiCache(aFlagCache()))
		secret := mustFind[*corev1.Secret](c.world, "demo-connection")
		before := string(secret.Data["uri"])
		secret.Data["uri"], secret.Data["host"] = []byte("rediss://evil"), []byte("evil")
		c.reconcileOnce()
		if now := c.index().SecretValue("demo-connection", "uri").Reveal(); now != before {
			t.Errorf("it has %s", now)
		}
	})
}
