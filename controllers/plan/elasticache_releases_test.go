// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/ackcrds"
)

// A cache is created and changed with the fields that the CRDs of a release have. The API
// server rejects a change with any other.
func TestOlderReleasesOfACK(t *testing.T) {
	for _, release := range append(ackcrds.Releases(), "v1.8.0") {
		for _, authentication := range []v1alpha1.ElastiCacheAuthenticationType{v1alpha1.AuthenticationToken, v1alpha1.AuthenticationIAM} {
			t.Run(release+" "+string(authentication), func(t *testing.T) {
				fc := withEverything(aFlagCache())
				fc.Spec.Cache.ElastiCache.Authentication.Type = authentication
				c := aCloud(t, fc)
				c.ackLacks = ackcrds.Lacking(release)
				if _, lacks := c.ackLacks["User"]; lacks && authentication == v1alpha1.AuthenticationIAM {
					c.expectOutdated("users.elasticache.services.k8s.aws", "spec.authenticationMode", "v1.3.5 or later")
					return
				}
				c.until("Ready", c.ready)
				c.expectServedFields()
				c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
				c.runFor(5 * time.Minute)
				c.expectServedFields()
				if _, group := c.onlyGroup(); *group.Spec.CacheNodeType != "cache.m5.large" || len(c.aws.Groups) != 1 {
					t.Errorf("AWS has %d groups, one with nodes of type %s", len(c.aws.Groups), *group.Spec.CacheNodeType)
				}
				c.expectSilence()

				c.ackLacks = nil
				c.runFor(5 * time.Minute)
				group := c.group()
				if got := strings.Join(ack.Values([]*string{group.Spec.Durability, group.Spec.IPDiscovery, group.Spec.NetworkType}), " "); got != "default ipv4 ipv4" {
					t.Errorf("after an update of ACK the fields are %s", got)
				}
				if len(c.aws.Groups) != 1 || c.readyFlipped > 1 {
					t.Errorf("AWS has %d groups, Ready flipped %d times", len(c.aws.Groups), c.readyFlipped)
				}
				c.expectSilence()
			})
		}
	}
}

// expectOutdated runs with a CRD that lacks a field, and then with one that has it.
func (c *cloud) expectOutdated(words ...string) {
	c.t.Helper()
	c.runFor(time.Minute)
	c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonACKOutdated)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonACKOutdated)
	c.expectMessage(v1alpha1.ConditionCacheProvisioned, words...)
	c.expectSilence()
	for _, child := range c.children {
		if ack.Is(child) {
			c.t.Errorf("%s is created", name(child))
		}
	}
	c.ackLacks = nil
	c.until("Ready", c.ready)
}

// A CRD that is replaced by an older one leaves a cache in use as it is.
func TestDowngradeOfACKLeavesTheCache(t *testing.T) {
	fc := withEverything(aFlagCache())
	fc.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationIAM
	c := aReadyCloud(t, fc)
	c.ackLacks = ackcrds.Lacking("v1.3.4")
	before := len(c.children)
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.m5.large" })
	c.runFor(time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonACKOutdated)
	c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
	c.expect(v1alpha1.ConditionCacheHealthy, "True", v1alpha1.ReasonHealthy)
	if len(c.children) != before || len(c.changedClasses) > 0 {
		t.Errorf("there are %d children, were %d; changes %v", len(c.children), before, c.changedClasses)
	}
}

// An alarm that its CRD has no field for is no trouble for the cache.
func TestAlarmsAreKeptWhereTheirCRDLacksAField(t *testing.T) {
	c := aReadyCloud(t, withEverything(aFlagCache()))
	before := len(c.children)
	c.ackLacks = map[string][]string{"MetricAlarm": {"threshold", "datapointsToAlarm"}}
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Alarms.CPUPercent = 60 })
	c.runFor(time.Minute)
	c.expect(v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	c.expect(v1alpha1.ConditionAlarmsConfigured, "False", v1alpha1.ReasonACKOutdated)
	c.expectMessage(v1alpha1.ConditionAlarmsConfigured, "metricalarms.cloudwatch.services.k8s.aws", "spec.threshold", "cloudwatch-controller")
	if len(c.children) != before {
		t.Errorf("there are %d children, were %d", len(c.children), before)
	}
	c.expectSilence()
}

// expectServedFields checks that no object has a field that its CRD lacks.
func (c *cloud) expectServedFields() {
	c.t.Helper()
	for _, child := range c.children {
		for _, field := range c.ackLacks[ack.KindOf(child).Kind] {
			if hasField(c.t, child, field) {
				c.t.Errorf("%s has the field %s", name(child), field)
			}
		}
	}
}

func hasField(t *testing.T, o observed.Object, field string) bool {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	_, found, err := unstructured.NestedFieldNoCopy(fields, "spec", field)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
