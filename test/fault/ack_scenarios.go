// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// caches are the stories of caches in AWS.
var caches = inCloud([]scenario{
	{name: "elastiCacheCreated", steps: []step{createElastiCache}},
	{name: "elastiCacheChanged", steps: []step{createElastiCache, {"ask for larger nodes and one more", func(w *World) {
		w.respec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.ElastiCache.NodeType, s.Cache.ElastiCache.Replicas = "cache.t3.small", 2
		})
	}}}},
	{name: "elastiCacheRotated", steps: []step{createElastiCache, rotate("today"), rotate("tomorrow")}, moments: moments{2: rotated}},
	{name: "elastiCacheRotatedOnTrial", steps: []step{createInCloud(inAWS(canaried(20))), rotate("today"), rotate("tomorrow")},
		moments: moments{2: onTrial}, patient: true, canaried: true},
	{name: "elastiCacheReplaced", steps: []step{createElastiCache, anotherEngine("")}},
	{name: "elastiCacheReplacedByCanary", steps: []step{createInCloud(inAWS(canaried(20))), anotherEngine("")}, patient: true, canaried: true},
	{name: "elastiCacheRolledBack", steps: []step{createInCloud(inAWS(canaried(20))), anotherEngine("flag-service:" + failingImage)},
		patient: true, canaried: true, without: []fault{respecified}},
	{name: "elastiCacheMigratedTo", steps: []step{createInCluster, {"install ACK and move to AWS", func(w *World) {
		w.cloud.installed = true
		w.respec(func(s *v1alpha1.FlagCacheSpec) { inAWS(aFlagCache()).Spec.Cache.DeepCopyInto(&s.Cache) })
	}}}},
	{name: "elastiCacheDeleted", steps: []step{createElastiCache, {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "elastiCacheRetained", steps: []step{createInCloud(kept(inAWS(aFlagCache()), v1alpha1.DeletionRetain)), {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "elastiCacheRetainedReplaced", steps: []step{createInCloud(kept(inAWS(aFlagCache()), v1alpha1.DeletionRetain)), anotherEngine("")}},
	{name: "elastiCacheSnapshotted", steps: []step{createInCloud(kept(inAWS(aFlagCache()), v1alpha1.DeletionSnapshot)), {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "elastiCacheFailsOnce", steps: []step{{"have AWS fail", func(w *World) { w.cloud.failing = 1 }}, createElastiCache}},
	{name: "elastiCacheOverQuota", steps: []step{{"use up the quota", func(w *World) { w.cloud.full = true }}, createElastiCache,
		{"raise the quota", func(w *World) {
			w.cloud.full = false
			w.nextTick = w.time.Add(tick)
		}}}},
	{name: "elastiCacheBeforeACK", steps: []step{
		{"create the FlagCache", func(w *World) { w.make(flagsFile(goodFlags)); w.make(inAWS(aFlagCache())) }},
		{"install ACK", func(w *World) {
			w.cloud.installed = true
			w.nextTick = w.time.Add(tick)
			w.queue.wake(w.time)
		}},
	}},
	{name: "elastiCacheWithoutACK", steps: []step{createElastiCache,
		{"stop ACK and ask for larger nodes", func(w *World) {
			w.cloud.stopped = true
			w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.NodeType = "cache.t3.small" })
		}},
		{"start ACK", func(w *World) {
			w.cloud.stopped = false
			w.nextTick = w.time.Add(tick)
		}},
	}, patient: true},
	{name: "elastiCacheLost", steps: []step{createElastiCache, {"delete the group in AWS", (*World).lose}}},
	{name: "elastiCacheNamespaceDeleted", steps: []step{createElastiCache, deleteNamespace}},
	{name: "elastiCacheByIAM", steps: []step{createInCloud(withParts(inAWS(aFlagCache()))), {"delete the FlagCache", (*World).deleteFlagCache}}},
})

func inCloud(stories []scenario) []scenario {
	for i := range stories {
		stories[i].inCloud = true
	}
	return stories
}

// rotate asks for a new token.
func rotate(request string) step {
	return step{"ask for a new token " + request, func(w *World) {
		w.asked = w.drawn
		edit(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { note(fc, v1alpha1.AnnotationRotateToken, request) })
	}}
}

// rotated: AWS takes two tokens, and the older one is still in use.
func rotated(w *World) bool {
	for _, known := range w.servers {
		if known[1] != "" {
			return true
		}
	}
	return false
}

var createElastiCache = createInCloud(inAWS(aFlagCache()))

// createInCloud creates a FlagCache with a cache in AWS, where ACK is installed.
func createInCloud(fc *v1alpha1.FlagCache) step {
	return step{"create the FlagCache with a cache in AWS", func(w *World) {
		w.cloud.installed = true
		w.make(flagsFile(goodFlags))
		w.make(fc)
	}}
}

// inAWS gives a FlagCache a cache in AWS.
func inAWS(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
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

func kept(fc *v1alpha1.FlagCache, policy v1alpha1.DeletionPolicy) *v1alpha1.FlagCache {
	fc.Spec.DeletionPolicy = policy
	return fc
}

// withParts has the cache need all that it can.
func withParts(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	e := fc.Spec.Cache.ElastiCache
	e.SubnetGroupName, e.SubnetIDs = "", []v1alpha1.SubnetID{"subnet-1"}
	e.SecurityGroupIDs, e.VPCID, e.ClientSecurityGroupIDs = nil, "vpc-1", []v1alpha1.SecurityGroupID{"sg-2"}
	e.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "allkeys-lru"}
	e.Authentication = v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationIAM, RoleARN: "arn:aws:iam::123456789012:role/demo"}
	e.Alarms = &v1alpha1.AlarmsSpec{CPUPercent: 75, MemoryPercent: 80, EvictionsPerFiveMinutes: 100}
	e.Replicas = 0
	return fc
}

// anotherEngine asks for what only another cache is.
func anotherEngine(image string) step {
	return step{strings.TrimSpace("change the engine " + image), func(w *World) {
		w.respec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.ElastiCache.Engine, s.Cache.ElastiCache.EngineVersion = v1alpha1.EngineValkey, "8.0"
			s.Service.Image = image
		})
	}}
}
