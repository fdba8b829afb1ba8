// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func TestQueriesAreRestrictedToTheNamespace(t *testing.T) {
	tests := map[v1alpha1.Query]string{
		`errors{v="$revision"} # failed`:                       `errors{namespace="shop",v="8f2c1a3b"}`,
		`errors{v="$revision",namespace="bank"}`:               `errors{namespace="bank",namespace="shop",v="8f2c1a3b"}`,
		`{__name__=~".+",v=~"x|$revision"}`:                    `{__name__=~".+",namespace="shop",v=~"x|8f2c1a3b"}`,
		`a{v="$revision"} offset 5m + on (pod) b{n="$name"}`:   `a{namespace="shop",v="8f2c1a3b"} offset 5m + on (pod) b{n="checkout",namespace="shop"}`,
		`max_over_time(a{v="$revision"}[5m:1m] @ 7)`:           `max_over_time(a{namespace="shop",v="8f2c1a3b"}[5m:1m] @ 7.000)`,
		`last_over_time(a{v="$revision"}[1m])`:                 `last_over_time(a{namespace="shop",v="8f2c1a3b"}[1m])`,
		`a{v="$revision"} unless on (pod) absent(b) or sum(c)`: `a{namespace="shop",v="8f2c1a3b"} unless on (pod) absent(b{namespace="shop"}) or sum(c{namespace="shop"})`,
		`{"a b",v="$revision",ns="$namespace"}`:                `{__name__="a b",namespace="shop",ns="shop",v="8f2c1a3b"}`,
	}
	for query, want := range tests {
		if got, err := scoped(query, "8f2c1a3b", aTarget()); err != nil || got != want {
			t.Errorf("%s\nbecame %s (%v)\n  want %s", query, got, err, want)
		}
	}
}
