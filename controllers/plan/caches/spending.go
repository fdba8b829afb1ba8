// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package caches

import (
	"slices"

	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
)

// Overspending returns the limit of the administrator's policy that the spec exceeds.
func Overspending(x *observed.Index) []policy.Violation {
	if !x.SpendingLimits.Set() {
		return nil
	}
	now, before := cost.Monthly(Bill(x))
	then, missing := cost.Monthly(Of(x.FlagCache).Requested(x))
	spending := policy.Spending{Now: now, Then: then, TooMany: x.MoreNeighbors}
	for _, unknown := range missing {
		if !slices.Contains(before, unknown) {
			spending.Unknown = unknown
			break
		}
	}
	if then > now && !spending.TooMany {
		for _, n := range x.Neighbors {
			spending.Others += committed(n)
		}
	}
	return x.SpendingLimits.Check(spending)
}

// committed is what another FlagCache costs or requests, whichever is more: what it requests
// may be created before its group is observed.
func committed(n observed.Neighbor) int64 {
	x := observed.NewIndex(observed.Snapshot{FlagCache: n.FlagCache, Children: n.Groups})
	now, _ := cost.Monthly(Bill(x))
	then, _ := cost.Monthly(Of(n.FlagCache).Requested(x))
	return max(now, then)
}
