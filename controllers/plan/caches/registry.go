// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package caches is the registry of the types of caches: a new type is a package
// with a Planner and a line here.
package caches

import (
	"maps"
	"slices"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/cache/external"
	"github.com/flagcache/flagcache/controllers/plan/cache/incluster"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// planners has the Planner of each type.
var planners = map[v1alpha1.CacheType]cache.Planner{
	v1alpha1.CacheInCluster:   incluster.Planner{},
	v1alpha1.CacheExternal:    external.Planner{},
	v1alpha1.CacheElastiCache: elasticache.Planner{},
}

// Of returns the Planner of the cache that the spec requests; that of the API's
// default for a type that is missing or unknown.
func Of(fc *v1alpha1.FlagCache) cache.Planner {
	if planner, ok := planners[fc.Spec.Cache.Type]; ok {
		return planner
	}
	return planners[v1alpha1.CacheInCluster]
}

// all are the Planners in a fixed order.
func all() []cache.Planner {
	var sorted []cache.Planner
	for _, kind := range slices.Sorted(maps.Keys(planners)) {
		sorted = append(sorted, planners[kind])
	}
	return sorted
}

// Dependencies are what a plan of the FlagCache rests on: those of its type of cache
// and, when it is deleted, those of every type, because all of its caches must go.
func Dependencies(fc *v1alpha1.FlagCache) cache.Dependencies {
	deps := Of(fc).Dependencies(fc)
	if fc.DeletionTimestamp.IsZero() {
		return deps
	}
	deps.Current = nil
	for _, p := range all() {
		d := p.Dependencies(fc)
		deps.ACK = deps.ACK || d.ACK
		deps.Current = append(deps.Current, d.Current...)
	}
	return deps
}

// Retire takes down caches that nothing uses any more. Part is that of the requested
// cache.
func Retire(x *observed.Index, part cache.Part) cache.Retirement {
	var retired cache.Retirement
	for _, p := range all() {
		step := p.Retire(x, part)
		retired.Apply, retired.Delete = append(retired.Apply, step.Apply...), append(retired.Delete, step.Delete...)
		if step.WaitsFor != "" {
			retired.WaitsFor = step.WaitsFor
		}
	}
	return retired
}

// TearDown takes the next step towards no cache being left.
func TearDown(x *observed.Index) cache.Retirement {
	for _, p := range all() {
		if step := p.TearDown(x); step.WaitsFor != "" {
			return step
		}
	}
	return cache.Retirement{}
}

// Bill is what the existing caches of all types are billed as.
func Bill(x *observed.Index) []cost.Group {
	var bill []cost.Group
	for _, p := range all() {
		bill = append(bill, p.Bill(x)...)
	}
	return bill
}

// ProbeConnection is a connection as the operator's probe uses it.
func ProbeConnection(x *observed.Index, c connection.Connection) connection.Connection {
	for _, p := range all() {
		c = p.ProbeConnection(x, c)
	}
	return c
}
