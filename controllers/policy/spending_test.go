// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func TestSpendingLimits(t *testing.T) {
	each, together := SpendingLimits{FlagCache: ptr.To[int32](50)}, SpendingLimits{Namespace: ptr.To[int32](100)}
	tests := map[string]struct {
		limits SpendingLimits
		Spending
		want string
	}{
		"no limit":                          {SpendingLimits{}, Spending{Then: 1_000_000, Unknown: "x"}, ""},
		"to the cent":                       {each, Spending{Then: 5000}, ""},
		"a cent over":                       {each, Spending{Then: 5001}, "it would cost 50.01 USD a month, and at most 50.00 are permitted"},
		"over already":                      {each, Spending{Now: 9000, Then: 9000}, ""},
		"on the way back":                   {each, Spending{Now: 9000, Then: 8000}, ""},
		"over, and more":                    {each, Spending{Now: 9000, Then: 9001}, "it would cost 90.01 USD a month, and at most 50.00 are permitted"},
		"an unknown price":                  {each, Spending{Now: 1, Then: 1, Unknown: "no price is known of x"}, "its cost is limited and not known: no price is known of x. Name a region, and a node type with a known price"},
		"together to the cent":              {together, Spending{Then: 4000, Others: 6000}, ""},
		"together a cent over":              {together, Spending{Then: 4000, Others: 6001}, "it would cost 40.00 USD a month, with 60.01 of the other FlagCaches of the namespace, and at most 100.00 are permitted together"},
		"together over, without a change":   {together, Spending{Now: 4000, Then: 4000, Others: 6001}, ""},
		"too many others":                   {together, Spending{Then: 1, TooMany: true}, "the cost of the namespace is limited, and it has more than 500 other FlagCaches, which are not added up"},
		"too many others without a request": {together, Spending{Now: 1, Then: 1, TooMany: true}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var want []Violation
			if test.want != "" {
				want = []Violation{{"cache.elastiCache", test.want}}
			}
			if diff := cmp.Diff(want, test.limits.Check(test.Spending)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpendingLimitsOfANamespace(t *testing.T) {
	p := parsed(t, head+"elastiCache: [{namespaces: ['team-*'], maxMonthlyUSD: 50, maxNamespaceMonthlyUSD: 100}]")
	fc := aFlagCache(func(s *v1alpha1.FlagCacheSpec) { s.Cache.Type = v1alpha1.CacheElastiCache })
	if l := p.SpendingLimits(fc); !l.Set() || *l.FlagCache != 50 || *l.Namespace != 100 {
		t.Errorf("the limits are %+v", l)
	}
	if fc.Namespace = "sandbox"; p.SpendingLimits(fc).Set() {
		t.Error("another namespace has limits")
	}
}
