// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package external plans caches of type External: a Redis that the user provides,
// known by a Secret.
package external

import (
	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/cost"
)

// basis is that of the estimate of a cost of 0.
const basis = "An external cache is billed to whoever runs it; it is not counted"

// Planner implements cache.Planner.
type Planner struct{ cache.Base }

// Dependencies implements cache.Planner.
func (Planner) Dependencies(fc *v1alpha1.FlagCache) cache.Dependencies {
	if fc.Spec.Cache.External == nil {
		return cache.Dependencies{}
	}
	return cache.Dependencies{Secret: fc.Spec.Cache.External.SecretRef.Name}
}

// Hints implements cache.Planner.
func (Planner) Hints() cache.Hints {
	return cache.Hints{HighMemory: "find out what fills it, or have it enlarged", HighCPU: "find out what else uses it, or have it enlarged"}
}

// Plan implements cache.Planner: there is nothing to create, only a Secret to
// interpret.
func (Planner) Plan(in cache.Input) cache.Part {
	part := cache.Part{
		Status: v1alpha1.CacheStatus{State: cache.StateExternal},
		Cost:   cost.AssessFree(in.FlagCache.Spec.Budget, in.Bill, basis),
	}
	name := in.FlagCache.Spec.Cache.External.SecretRef.Name
	refuse := func(reason, format string, args ...any) cache.Part {
		part.Provisioned = conditions.False(v1alpha1.ConditionCacheProvisioned, reason, format, args...)
		return part
	}
	if reason, message := in.ExternalSecret.Problem(name, "the key uri, or host and port,"); reason != "" {
		return refuse(reason, "%s", message)
	}
	c, err := connection.Parse(in.ExternalSecret.Data)
	if err != nil {
		return refuse(v1alpha1.ReasonSecretInvalid, "Secret %s: %v", name, err)
	}
	part.Connection, part.Status.Nodes = &c, 1
	part.Provisioned = conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned,
		"Secret %s names the cache", name)
	return part
}
