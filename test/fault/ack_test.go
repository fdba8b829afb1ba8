// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// TestElastiCacheScenarios verifies the ends of the reference runs with caches in AWS, with which
// all plans are compared.
func TestElastiCacheScenarios(t *testing.T) {
	const one = "redis on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 1 token"
	ends := map[string]string{
		"elastiCacheCreated":                one,
		"elastiCacheChanged":                "redis on 3 cache.t3.small available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheChangeOverwritten":      "redis on 3 cache.t3.small available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheEdited":                 one,
		"elastiCacheRotated":                "redis on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 2 tokens",
		"elastiCacheRotatedDuringCanary":    "redis on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 2 tokens",
		"elastiCacheReplaced":               "valkey on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheReplacedByCanary":       "valkey on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheRolledBack":             one,
		"elastiCacheMigratedTo":             one,
		"elastiCacheDeleted":                "AWS has 0",
		"elastiCacheRetained":               "AWS has 1 accepting 1 token",
		"elastiCacheRetainedReplaced":       "valkey on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheSnapshotted":            "AWS has 0",
		"elastiCacheFailsOnce":              one,
		"elastiCacheOverQuota":              one,
		"elastiCacheChangeDenied":           "redis on 2 cache.t3.small available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheOverspending":           "redis on 2 cache.t3.small available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheUpgraded":               "redis on 1 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheUpgradedDuringCreation": one,
		"elastiCacheAdopted":                "redis on 2 cache.t3.micro available, serves v1 by elasticache, AWS has 1 accepting 2 tokens",
		"elastiCacheAdoptionRefused":        "AWS has 1 accepting 1 token",
		"elastiCacheBeforeACK":              one,
		"elastiCacheWithoutACK":             "redis on 2 cache.t3.small available, serves v1 by elasticache, AWS has 1 accepting 1 token",
		"elastiCacheLost":                   one,
		"elastiCacheNamespaceDeleted":       "AWS has 0",
		"elastiCacheByIAM":                  "AWS has 0",
	}
	reasons := map[string]string{
		"elastiCacheChangeOverwritten": v1alpha1.ReasonInvalidRecord,
		"elastiCacheOverspending":      v1alpha1.ReasonNotPermitted,
		"elastiCacheWithoutACK":        v1alpha1.ReasonACKNotResponding,
		"elastiCacheLost":              v1alpha1.ReasonRecreated,
	}
	for _, s := range elastiCacheScenarios {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(s, plan{scenario: s.name})
			w.runUntilRest(true)
			w.oracle().checkAtRest()
			for _, text := range w.violations {
				t.Error(text)
			}
			if !strings.Contains(strings.Join(w.events, "\n"), reasons[s.name]) {
				t.Errorf("there is no event with reason %s: %q", reasons[s.name], w.events)
			}
			for id := range w.cloud.Groups {
				if fc := find(w.api.now(flagCaches), name); strings.HasPrefix(s.name, "elastiCacheUpgraded") && id != oldID(fc.(*v1alpha1.FlagCache)) {
					t.Errorf("the cache of the old release has the ID %s", id)
				}
			}
			if got := w.describeCaches(); got != ends[s.name] {
				t.Errorf("the scenario ends with:\n%s\nwant:\n%s", got, ends[s.name])
			}
		})
	}
}

// describeCaches summarizes the caches in AWS and their use.
func (w *World) describeCaches() string {
	var parts []string
	for _, o := range w.api.now(replicationGroups) {
		g := o.(*ack.ReplicationGroup)
		parts = append(parts, fmt.Sprintf("%s on %d %s %s", *g.Spec.Engine, len(g.Status.MemberClusters), *g.Spec.CacheNodeType, ack.GroupState(g)))
	}
	if image := w.load().imageOf(w.canaryOracle().stable()); image != "" {
		connection, _ := live[*corev1.Secret](&w.api.store, secrets, name+"-connection")
		parts = append(parts, fmt.Sprintf("serves %s by %s", image[strings.LastIndex(image, ":")+1:], connection.Data["provider"]))
	}
	has := fmt.Sprintf("AWS has %d", len(w.cloud.Groups))
	for _, id := range slices.Sorted(maps.Keys(w.cloud.Groups)) {
		has += " accepting 1 token"
		if w.cloud.Groups[id].Tokens[1] != "" {
			has = strings.TrimSuffix(has, "1 token") + "2 tokens"
		}
	}
	return strings.Join(append(parts, has), ", ")
}
