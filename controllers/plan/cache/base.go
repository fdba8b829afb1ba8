// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Base implements the methods of a Planner whose caches consist of ordinary children
// of the FlagCache, if of anything, and are reached in the same way by everybody.
type Base struct{}

// Dependencies implements Planner.
func (Base) Dependencies(*v1alpha1.FlagCache) Dependencies { return Dependencies{} }

// Workload implements Planner.
func (Base) Workload(*v1alpha1.FlagCache) Workload { return Workload{} }

// Retire implements Planner.
func (Base) Retire(*observed.Index, Part) Retirement { return Retirement{} }

// TearDown implements Planner.
func (Base) TearDown(*observed.Index) Retirement { return Retirement{} }

// Bill implements Planner.
func (Base) Bill(*observed.Index) []cost.Group { return nil }

// Requested implements Planner.
func (Base) Requested(*observed.Index) []cost.Group { return nil }

// ProbeConnection implements Planner.
func (Base) ProbeConnection(_ *observed.Index, c connection.Connection) connection.Connection {
	return c
}
