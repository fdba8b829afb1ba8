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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
)

// The simulation reports a change of two classes, and one that is made before AWS has
// carried out the last.
func TestOneClassOfChangeAtATime(t *testing.T) {
	type spec = *v1alpha1.ElastiCacheSpec
	for name, test := range map[string]struct {
		before func(spec)
		change func(spec)
		want   []string
	}{
		"the node type":               {change: func(e spec) { e.NodeType = "cache.m5.large" }, want: []string{"node"}},
		"more replicas":               {change: func(e spec) { e.Replicas = 3 }, want: []string{"replicas"}},
		"fewer replicas":              {before: func(e spec) { e.Replicas = 3 }, change: func(e spec) { e.Replicas = 1 }, want: []string{"replicas"}},
		"the last replica is removed": {change: func(e spec) { e.Replicas, e.MultiAZ = 0, v1alpha1.Disabled }, want: []string{"availability", "replicas"}},
		"the first replica is added":  {before: func(e spec) { e.Replicas, e.MultiAZ = 0, v1alpha1.Disabled }, change: func(e spec) { e.Replicas, e.MultiAZ = 1, v1alpha1.Enabled }, want: []string{"replicas", "availability"}},
		"one availability zone":       {change: func(e spec) { e.MultiAZ = v1alpha1.Disabled }, want: []string{"availability"}},
		"the engine":                  {change: func(e spec) { e.EngineVersion = "8.1" }, want: []string{"engine"}},
		"the engine, another family":  {change: func(e spec) { e.EngineVersion = "9.0" }, want: []string{"engine"}},
		"the engine with its own parameters": {
			before: func(e spec) { e.Parameters = map[string]v1alpha1.ParameterValue{"timeout": "5"} }, change: func(e spec) { e.EngineVersion = "9.0" }, want: []string{"engine"},
		},
		"parameters are added":   {change: func(e spec) { e.Parameters = map[string]v1alpha1.ParameterValue{"timeout": "5"} }, want: []string{"engine"}},
		"parameters are removed": {before: func(e spec) { e.Parameters = map[string]v1alpha1.ParameterValue{"timeout": "5"} }, change: func(e spec) { e.Parameters = nil }, want: []string{"engine"}},
		"tags":                   {change: func(e spec) { e.Tags = map[string]v1alpha1.TagValue{"team": "shop"} }, want: []string{"tags"}},
		"security groups":        {change: func(e spec) { e.SecurityGroupIDs = []v1alpha1.SecurityGroupID{"sg-1"} }, want: []string{"security", "quiet", "quiet"}},
		"no security groups":     {before: func(e spec) { e.SecurityGroupIDs = []v1alpha1.SecurityGroupID{"sg-1"} }, change: func(e spec) { e.SecurityGroupIDs = nil }},
		"windows": {
			before: func(e spec) { e.Snapshots = &v1alpha1.SnapshotsSpec{RetentionDays: 1} }, change: func(e spec) {
				e.MaintenanceWindow, e.Snapshots = "sun:05:00-sun:07:00", &v1alpha1.SnapshotsSpec{RetentionDays: 3, Window: "01:00-02:00"}
			}, want: []string{"quiet"},
		},
		"what AWS does not know": {change: func(e spec) { e.Authentication.RotationInterval = &metav1.Duration{Duration: 24 * time.Hour} }},
		"everything": {
			change: func(e spec) {
				e.NodeType, e.Replicas, e.EngineVersion, e.SecurityGroupIDs = "cache.m5.large", 2, "8.1", []v1alpha1.SecurityGroupID{"sg-1"}
				e.Tags, e.MaintenanceWindow, e.MultiAZ = map[string]v1alpha1.TagValue{"team": "shop"}, "sun:05:00-sun:07:00", v1alpha1.Disabled
			},
			want: []string{"quiet", "tags", "security", "quiet", "quiet", "engine", "node", "replicas", "availability"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			fc := withElastiCache(aFlagCache())
			if test.before != nil {
				test.before(fc.Spec.Cache.ElastiCache)
			}
			c := aReadyCloud(t, fc)
			c.change(test.change)
			c.runFor(20 * time.Minute)
			if d := cmp.Diff(test.want, c.changedClasses); d != "" {
				t.Errorf("the changes are (-want +got):\n%s", d)
			}
			if c.readyFlipped > 0 {
				t.Errorf("Ready flipped %d times", c.readyFlipped)
			}
			c.expectInAWS()
			c.expectSilence()
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		})
	}
}

// expectInAWS checks that AWS has every setting of the group.
func (c *cloud) expectInAWS() {
	c.t.Helper()
	g, aws := c.onlyGroup()
	want := g.Spec
	want.EngineVersion = ptr.To(*want.EngineVersion + ".0") // as AWS writes it
	if want.PreferredMaintenanceWindow == nil {
		want.PreferredMaintenanceWindow = aws.Spec.PreferredMaintenanceWindow
	}
	if differ := elasticache.Differences(aws.Spec, want); len(differ) > 0 {
		c.t.Errorf("AWS has another spec, which differs in %v (-Kubernetes +AWS):\n%s", differ, cmp.Diff(want, aws.Spec))
	}
}

func TestChangeInPlaceIsReconcilingAndReady(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
	c.tick()
	c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonModifying)
	c.runFor(5 * time.Minute)
	c.expectSilence()
	for _, condition := range c.fc.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReconciling {
			t.Error("Reconciling is still present")
		}
	}
}

// AWS refuses them when ACK sends them, which is with the next change.
func TestRefusedSecurityGroupsAreAmended(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.refuse("InvalidParameterValue", "Invalid security group", modifications...)
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.SecurityGroupIDs = []v1alpha1.SecurityGroupID{"sg-0"} })
	c.until("the refusal", c.hasReason(v1alpha1.ReasonAWSRejected))
	c.runFor(20 * time.Minute)
	c.aws.Permit()
	c.change(func(e *v1alpha1.ElastiCacheSpec) {
		e.SecurityGroupIDs, e.NodeType = []v1alpha1.SecurityGroupID{"sg-1"}, "cache.m5.large"
	})
	c.runFor(20 * time.Minute)
	if _, aws := c.onlyGroup(); *aws.Spec.SecurityGroupIDs[0] != "sg-1" || *aws.Spec.CacheNodeType != "cache.m5.large" {
		t.Errorf("AWS has %v and %s", ack.Values(aws.Spec.SecurityGroupIDs), *aws.Spec.CacheNodeType)
	}
	c.expectSilence()
	c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
}

func TestSpecChangesDuringAChange(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.aws.Timing.Operation = 5 * time.Minute
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
	c.runFor(time.Minute)
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType, e.Replicas = "cache.m5.xlarge", 2 })
	c.runFor(time.Minute)
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.micro" })
	c.runFor(40 * time.Minute)
	if d := cmp.Diff([]string{"node", "node", "replicas"}, c.changedClasses); d != "" {
		t.Errorf("the changes are (-want +got):\n%s", d)
	}
	if _, aws := c.onlyGroup(); *aws.Spec.CacheNodeType != "cache.t3.micro" || *aws.Spec.ReplicasPerNodeGroup != 2 {
		t.Errorf("AWS has %s and %d replicas", *aws.Spec.CacheNodeType, *aws.Spec.ReplicasPerNodeGroup)
	}
	c.expectSilence()
}

// A refused change holds back no other, and reverting the spec resolves it, for errors that
// ACK retries and for those that it does not.
func TestRefusedChangeIsAmended(t *testing.T) {
	for name, code := range map[string]string{"terminal": "InvalidParameterValue", "retried by ACK": "AccessDenied"} {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			c.refuse(code, "not this node type", modifications...)
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType, e.Replicas = "cache.nonsense.large", 2 })
			c.runFor(5 * time.Minute)
			if d := cmp.Diff([]string{"node", "replicas"}, c.changedClasses); d != "" {
				t.Errorf("the changes are (-want +got):\n%s", d)
			}
			c.change(func(e *v1alpha1.ElastiCacheSpec) {
				e.NodeType, e.MaintenanceWindow = "cache.t3.micro", "sun:05:00-sun:07:00"
			})
			c.tick()
			c.aws.Permit()
			c.runFor(10 * time.Minute)
			// ACK changes the replicas first, and takes the node type from what AWS answers.
			if d := cmp.Diff([]string{"node", "replicas", "quiet"}, c.changedClasses); d != "" {
				t.Errorf("the changes are (-want +got):\n%s", d)
			}
			c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
		})
	}
}

// A group does not get a parameter group that AWS does not have.
func TestEngineWaitsForItsParameterGroup(t *testing.T) {
	c := aReadyCloud(t, withParameters(withElastiCache(aFlagCache()), "timeout", "5"))
	c.refuse("Throttling", "Rate exceeded", "CreateCacheParameterGroup")
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.EngineVersion = "9.0" })
	c.runFor(3 * time.Minute)
	if len(c.changedClasses) > 0 {
		t.Errorf("the group was changed: %v", c.changedClasses)
	}
	c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonAWSRetrying)
	c.aws.Permit()
	c.resync()
	c.runFor(5 * time.Minute)
	g, _ := c.onlyGroup()
	if *g.Spec.EngineVersion != "9.0" || !strings.HasSuffix(*g.Spec.CacheParameterGroupName, "-valkey9") {
		t.Errorf("the engine is %s with %s", *g.Spec.EngineVersion, *g.Spec.CacheParameterGroupName)
	}
	if d := cmp.Diff([]string{"CacheParameterGroup"}, c.deletedKinds); d != "" {
		t.Errorf("deleted are (-want +got):\n%s", d)
	}
}

// The sync that a change causes must be visible.
func TestChangeIsNotMadeWithinTheSecondOfASync(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.resync() // ACK synced just now
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.MaintenanceWindow = "sun:05:00-sun:07:00" })
	c.now = c.now.Add(time.Second)
	c.reconcileOnce()
	if window := ack.Value(c.group().Spec.PreferredMaintenanceWindow); window != "" || c.last.RequeueAfter <= 0 || c.last.RequeueAfter > 2*time.Second {
		t.Errorf("the window is %q, the next reconcile in %s", window, c.last.RequeueAfter)
	}
	c.expect(v1alpha1.ConditionReconciling, "True", v1alpha1.ReasonModifying)
	c.now = c.now.Add(c.last.RequeueAfter)
	c.reconcileOnce()
	if ack.Value(c.group().Spec.PreferredMaintenanceWindow) == "" {
		t.Error("the change is not made")
	}
	c.runFor(30 * time.Second)
	c.expectSilence()
	if d := cmp.Diff([]string{"quiet"}, c.changedClasses); d != "" {
		t.Errorf("the changes are (-want +got):\n%s", d)
	}
}

// ACK's times have a resolution of a second: where clocks differ, a change may have been
// carried out without a visible sync. It is treated as pending for two minutes.
func TestSyncWithinTheSameSecondIsAmbiguous(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*v1alpha1.ElastiCacheSpec)
		want string
	}{
		"a quiet change":  {func(e *v1alpha1.ElastiCacheSpec) { e.MaintenanceWindow = "sun:05:00-sun:07:00" }, "[quiet node]"},
		"tags":            {func(e *v1alpha1.ElastiCacheSpec) { e.Tags = map[string]v1alpha1.TagValue{"a": "b"} }, "[tags node]"},
		"security groups": {func(e *v1alpha1.ElastiCacheSpec) { e.SecurityGroupIDs = []v1alpha1.SecurityGroupID{"sg-1"} }, "[security quiet quiet node]"},
	} {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			c.ackAhead = interval
			c.resync()
			c.change(test.edit)
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
			c.reconcileOnce()
			c.syncAll()
			if group := c.group(); !ack.ConditionsOf(group).LastSyncTime().Time.Equal(c.now.Add(interval)) || len(c.changedClasses) != 1 {
				t.Errorf("ACK's sync at %s is visible: %v", ack.ConditionsOf(group).LastSyncTime(), c.changedClasses)
			}
			c.runFor(10 * time.Second)
			if len(c.changedClasses) != 1 {
				t.Errorf("the changes are %v", c.changedClasses)
			}
			c.runFor(20 * time.Minute)
			if fmt.Sprint(c.changedClasses) != test.want || c.readyFlipped > 0 {
				t.Errorf("the changes are %v, Ready flipped %d times", c.changedClasses, c.readyFlipped)
			}
			c.expectSilence()
		})
	}
}

// The status at the time of a change, and what ACK writes right after it because it was
// busy with the previous spec, are about that spec.
func TestStatusOfThePreviousSpecIsIgnored(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	c.ackStopped = true
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType, e.Replicas = "cache.m5.large", 2 })
	c.tick()
	c.now = c.now.Add(time.Second)
	for _, condition := range c.group().Status.Conditions { // ACK writes them again
		condition.LastTransitionTime = ptr.To(metav1.NewTime(c.now))
	}
	c.reconcileOnce()
	if *c.group().Spec.ReplicasPerNodeGroup != 1 {
		t.Error("the second change does not wait for the first")
	}
	c.ackStopped = false
	c.runFor(5 * time.Minute)
	if d := cmp.Diff([]string{"node", "replicas"}, c.changedClasses); d != "" {
		t.Errorf("the changes are (-want +got):\n%s", d)
	}
}

// ACK then writes nothing into the spec.
func TestSpecHasEveryFieldThatACKFillsIn(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	g, _ := c.onlyGroup()
	s := g.Spec
	for field, value := range map[string]*string{
		"engine": s.Engine, "engineVersion": s.EngineVersion, "cacheNodeType": s.CacheNodeType, "cacheParameterGroupName": s.CacheParameterGroupName,
		"snapshotWindow": s.SnapshotWindow, "ipDiscovery": s.IPDiscovery, "networkType": s.NetworkType, "durability": s.Durability, "description": s.Description,
	} {
		if value := ack.Value(value); value == "" || value != strings.ToLower(value) && field != "description" {
			t.Errorf("%s is %q", field, value)
		}
	}
	if s.AuthToken == nil || !*s.TransitEncryptionEnabled || !*s.AtRestEncryptionEnabled || !*s.AutomaticFailoverEnabled || !*s.MultiAZEnabled {
		t.Errorf("the spec is %+v", s)
	}
	if secret := mustFind[*corev1.Secret](c.world, s.AuthToken.Name); secret.Type != corev1.SecretTypeOpaque || strings.Contains(*s.Description, string(secret.Data[elasticache.TokenKey])) {
		t.Errorf("the token's Secret is of type %s, the description is %q", secret.Type, *s.Description)
	}
}
