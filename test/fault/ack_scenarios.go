// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// elastiCacheScenarios are the scenarios with caches in AWS.
var elastiCacheScenarios = inCloud([]scenario{
	{name: "elastiCacheCreated", steps: []step{createElastiCache}},
	{name: "elastiCacheChanged", steps: []step{createElastiCache, {"request larger nodes and one more replica", func(w *World) {
		w.updateSpec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.ElastiCache.NodeType, s.Cache.ElastiCache.Replicas = "cache.t3.small", 2
		})
	}}}},
	{name: "elastiCacheRotated", steps: []step{createElastiCache, requestRotation("today"), requestRotation("tomorrow")}, triggers: stepTriggers{2: twoTokensAccepted}},
	{name: "elastiCacheRotatedDuringCanary", steps: []step{createInCloud(withElastiCache(withCanary(20))), requestRotation("today"), requestRotation("tomorrow")},
		triggers: stepTriggers{2: candidateServes}, waitsForRest: true, hasCanary: true},
	{name: "elastiCacheReplaced", steps: []step{createElastiCache, changeEngine("")}},
	{name: "elastiCacheReplacedByCanary", steps: []step{createInCloud(withElastiCache(withCanary(20))), changeEngine("")}, waitsForRest: true, hasCanary: true},
	{name: "elastiCacheRolledBack", steps: []step{createInCloud(withElastiCache(withCanary(20))), changeEngine("flag-service:" + failingImage)},
		waitsForRest: true, hasCanary: true, excludedEvents: []fault{specChanged}},
	{name: "elastiCacheMigratedTo", steps: []step{createInCluster, {"install ACK and migrate to ElastiCache", func(w *World) {
		w.cloud.installed = true
		w.updateSpec(func(s *v1alpha1.FlagCacheSpec) { withElastiCache(aFlagCache()).Spec.Cache.DeepCopyInto(&s.Cache) })
	}}}},
	{name: "elastiCacheDeleted", steps: []step{createElastiCache, {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "elastiCacheRetained", steps: []step{createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionRetain)), {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "elastiCacheRetainedReplaced", steps: []step{createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionRetain)), changeEngine("")}},
	{name: "elastiCacheSnapshotted", steps: []step{createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionSnapshot)), {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "elastiCacheFailsOnce", steps: []step{{"let AWS fail", func(w *World) { w.cloud.failCreations = 1 }}, createElastiCache}},
	{name: "elastiCacheOverQuota", steps: []step{{"exceed the quota", func(w *World) { w.cloud.quotaExceeded = true }}, createElastiCache,
		{"raise the quota", func(w *World) {
			w.cloud.quotaExceeded = false
			w.nextTick = w.time.Add(tick)
		}}}},
	{name: "elastiCacheBeforeACK", steps: []step{
		{"create the FlagCache", func(w *World) { w.mustCreate(flagsFile(goodFlags)); w.mustCreate(withElastiCache(aFlagCache())) }},
		{"install ACK", func(w *World) {
			w.cloud.installed = true
			w.nextTick = w.time.Add(tick)
			w.queue.enqueue(w.time)
		}},
	}},
	{name: "elastiCacheWithoutACK", steps: []step{createElastiCache,
		{"stop ACK and request larger nodes", func(w *World) {
			w.cloud.stopped = true
			w.updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.NodeType = "cache.t3.small" })
		}},
		{"start ACK", func(w *World) {
			w.cloud.stopped = false
			w.nextTick = w.time.Add(tick)
		}},
	}, waitsForRest: true},
	{name: "elastiCacheLost", steps: []step{createElastiCache, {"delete the group in AWS", (*World).deleteGroupsInAWS}}},
	{name: "elastiCacheNamespaceDeleted", steps: []step{createElastiCache, deleteNamespace}},
	{name: "elastiCacheByIAM", steps: []step{createInCloud(withAllParts(withElastiCache(aFlagCache()))), {"delete the FlagCache", (*World).deleteFlagCache}}},
})

func inCloud(list []scenario) []scenario {
	for i := range list {
		list[i].inCloud = true
	}
	return list
}

// requestRotation requests a new token.
func requestRotation(request string) step {
	return step{"request a new token, " + request, func(w *World) {
		w.generatedAtRotation = w.generated
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { setAnnotation(fc, v1alpha1.AnnotationRotateToken, request) })
	}}
}

// twoTokensAccepted reports whether AWS accepts two tokens, of which the older one is still in use.
func twoTokensAccepted(w *World) bool {
	for _, known := range w.servers {
		if known[1] != "" {
			return true
		}
	}
	return false
}

var createElastiCache = createInCloud(withElastiCache(aFlagCache()))

// createInCloud creates a FlagCache with a cache in AWS, with ACK installed.
func createInCloud(fc *v1alpha1.FlagCache) step {
	return step{"create the FlagCache with a cache in AWS", func(w *World) {
		w.cloud.installed = true
		w.mustCreate(flagsFile(goodFlags))
		w.mustCreate(fc)
	}}
}

// withElastiCache sets a cache in AWS.
func withElastiCache(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache = v1alpha1.CacheSpec{
		Type: v1alpha1.CacheElastiCache, TTL: aFlagCache().Spec.Cache.TTL,
		ElastiCache: &v1alpha1.ElastiCacheSpec{
			Engine: v1alpha1.EngineRedis, EngineVersion: "7.1", NodeType: "cache.t3.micro", Replicas: 1, MultiAZ: v1alpha1.Enabled,
			SubnetGroupName: "private", SecurityGroupIDs: []v1alpha1.SecurityGroupID{"sg-1"},
			Authentication:    v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationToken},
			TransitEncryption: v1alpha1.TransitEncryptionRequired,
		},
	}
	return fc
}

func withDeletionPolicy(fc *v1alpha1.FlagCache, policy v1alpha1.DeletionPolicy) *v1alpha1.FlagCache {
	fc.Spec.DeletionPolicy = policy
	return fc
}

// withAllParts sets everything that creates further resources.
func withAllParts(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	e := fc.Spec.Cache.ElastiCache
	e.SubnetGroupName, e.SubnetIDs = "", []v1alpha1.SubnetID{"subnet-1"}
	e.SecurityGroupIDs, e.VPCID, e.ClientSecurityGroupIDs = nil, "vpc-1", []v1alpha1.SecurityGroupID{"sg-2"}
	e.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "allkeys-lru"}
	e.Authentication = v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationIAM, RoleARN: "arn:aws:iam::123456789012:role/demo"}
	e.Alarms = &v1alpha1.AlarmsSpec{CPUPercent: 75, MemoryPercent: 80, EvictionsPerFiveMinutes: 100}
	e.Replicas = 0
	return fc
}

// changeEngine changes a field that requires a replacement of the cache.
func changeEngine(image string) step {
	return step{strings.TrimSpace("change the engine " + image), func(w *World) {
		w.updateSpec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.ElastiCache.Engine, s.Cache.ElastiCache.EngineVersion = v1alpha1.EngineValkey, "8.0"
			s.Service.Image = image
		})
	}}
}
