// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// MaxNeighbors is the maximum number of other FlagCaches of a namespace that are added up.
const MaxNeighbors = 500

// SpendingLimits are maximum costs per month in USD; nil is none.
type SpendingLimits struct {
	// FlagCache limits each FlagCache, Namespace all of a namespace together.
	FlagCache, Namespace *int32
}

// Spending is what caches in AWS cost per month, in cents.
type Spending struct {
	// Now is what exists of the FlagCache, Then what it requests with what still exists.
	Now, Then int64
	// Unknown is the first price of what it requests that is missing, "" for none.
	Unknown string
	// Others is what the other FlagCaches of the namespace cost or request, whichever is
	// more. TooMany: there are more of them than are added up.
	Others  int64
	TooMany bool
}

// SpendingLimits are those of a FlagCache.
func (p *Policy) SpendingLimits(fc *v1alpha1.FlagCache) SpendingLimits {
	rule := p.elastiCacheOf(fc.Namespace)
	if rule == nil || fc.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return SpendingLimits{}
	}
	return SpendingLimits{FlagCache: rule.MaxMonthlyUSD, Namespace: rule.MaxNamespaceMonthlyUSD}
}

// Set reports whether there is a limit.
func (l SpendingLimits) Set() bool { return l.FlagCache != nil || l.Namespace != nil }

// Check returns the limit that a FlagCache exceeds. What costs no more than what exists is
// not refused: it may be the way back. What others request counts even if it is refused, so
// that two requests cannot both be granted what is left.
func (l SpendingLimits) Check(s Spending) []Violation {
	c := &checker{}
	const field = "cache.elastiCache"
	switch {
	case !l.Set() || s.Then <= s.Now && s.Unknown == "":
	case s.Unknown != "":
		c.refuse(field, "its cost is limited and not known: %s. Name a region, and a node type with a known price", s.Unknown)
	case l.FlagCache != nil && s.Then > cents(l.FlagCache):
		c.refuse(field, "it would cost %s USD a month, and at most %s are permitted", dollars(s.Then), dollars(cents(l.FlagCache)))
	case l.Namespace != nil && s.TooMany:
		c.refuse(field, "the cost of the namespace is limited, and it has more than %d other FlagCaches, which are not added up", MaxNeighbors)
	case l.Namespace != nil && s.Then+s.Others > cents(l.Namespace):
		c.refuse(field, "it would cost %s USD a month, with %s of the other FlagCaches of the namespace, and at most %s are permitted together",
			dollars(s.Then), dollars(s.Others), dollars(cents(l.Namespace)))
	}
	return c.found
}

func cents(usd *int32) int64 { return int64(*usd) * 100 }

func dollars(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
