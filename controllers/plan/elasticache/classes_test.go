// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/controllers/ack"
)

func TestNextChange(t *testing.T) {
	type spec = ack.ReplicationGroupSpec
	for name, c := range map[string]struct {
		current, desired spec
		first            string
		next             spec
		class            string
	}{
		"nothing": {spec{CacheNodeType: "a"}, spec{CacheNodeType: "a"}, "", spec{CacheNodeType: "a"}, ""},
		"empty lists are equal": {
			spec{Tags: []ack.Tag{}, SecurityGroupIDs: nil}, spec{SecurityGroupIDs: []string{}}, "", spec{Tags: []ack.Tag{}}, "",
		},
		"the first class that differs": {
			spec{CacheNodeType: "a", ReplicasPerNodeGroup: 1}, spec{CacheNodeType: "b", ReplicasPerNodeGroup: 2}, "",
			spec{CacheNodeType: "b", ReplicasPerNodeGroup: 1}, "node",
		},
		"the class of a refused change": {
			spec{CacheNodeType: "a", ReplicasPerNodeGroup: 1}, spec{CacheNodeType: "b", ReplicasPerNodeGroup: 2}, "replicas",
			spec{CacheNodeType: "a", ReplicasPerNodeGroup: 2}, "replicas",
		},
		"the refused change was reverted": {
			spec{CacheNodeType: "a"}, spec{CacheNodeType: "b"}, "replicas", spec{CacheNodeType: "b"}, "node",
		},
		"a first replica precedes failover": {
			spec{}, spec{ReplicasPerNodeGroup: 1, AutomaticFailoverEnabled: true}, "", spec{ReplicasPerNodeGroup: 1}, "replicas",
		},
		"no failover precedes no replica": {
			spec{ReplicasPerNodeGroup: 1, AutomaticFailoverEnabled: true}, spec{}, "", spec{ReplicasPerNodeGroup: 1}, "availability",
		},
		"fields of no class": {spec{Engine: "redis"}, spec{Engine: "valkey"}, "", spec{Engine: "redis"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			next, class := NextChange(c.current, c.desired, c.first)
			if d := cmp.Diff(c.next, next); d != "" || class != c.class {
				t.Errorf("class %q, want %q; spec (-want +got):\n%s", class, c.class, d)
			}
		})
	}
}

func TestDifferences(t *testing.T) {
	a := ack.ReplicationGroupSpec{ReplicasPerNodeGroup: 1}
	b := ack.ReplicationGroupSpec{
		Description: "d", Tags: []ack.Tag{{Key: "k"}}, SecurityGroupIDs: []string{"sg"}, EngineVersion: "8", CacheNodeType: "n",
		ReplicasPerNodeGroup: 2, MultiAZEnabled: true,
	}
	const want = "quiet tags security engine node replicas availability"
	if got := strings.Join(Differences(a, b), " "); got != want {
		t.Errorf("differences %s, want %s", got, want)
	}
}
