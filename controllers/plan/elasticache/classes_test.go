// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"k8s.io/utils/ptr"

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
		"nothing": {spec{CacheNodeType: ptr.To("a")}, spec{CacheNodeType: ptr.To("a")}, "", spec{CacheNodeType: ptr.To("a")}, ""},
		"empty lists are equal": {
			spec{Tags: []*ack.Tag{}, SecurityGroupIDs: nil}, spec{SecurityGroupIDs: []*string{}}, "", spec{Tags: []*ack.Tag{}}, "",
		},
		"the first class that differs": {
			spec{CacheNodeType: ptr.To("a"), ReplicasPerNodeGroup: ptr.To[int64](1)}, spec{CacheNodeType: ptr.To("b"), ReplicasPerNodeGroup: ptr.To[int64](2)}, "",
			spec{CacheNodeType: ptr.To("b"), ReplicasPerNodeGroup: ptr.To[int64](1)}, "node",
		},
		"the class of a refused change": {
			spec{CacheNodeType: ptr.To("a"), ReplicasPerNodeGroup: ptr.To[int64](1)}, spec{CacheNodeType: ptr.To("b"), ReplicasPerNodeGroup: ptr.To[int64](2)}, "replicas",
			spec{CacheNodeType: ptr.To("a"), ReplicasPerNodeGroup: ptr.To[int64](2)}, "replicas",
		},
		"the refused change was reverted": {
			spec{CacheNodeType: ptr.To("a")}, spec{CacheNodeType: ptr.To("b")}, "replicas", spec{CacheNodeType: ptr.To("b")}, "node",
		},
		"a first replica precedes failover": {
			spec{}, spec{ReplicasPerNodeGroup: ptr.To[int64](1), AutomaticFailoverEnabled: ptr.To(true)}, "", spec{ReplicasPerNodeGroup: ptr.To[int64](1)}, "replicas",
		},
		"no failover precedes no replica": {
			spec{ReplicasPerNodeGroup: ptr.To[int64](1), AutomaticFailoverEnabled: ptr.To(true)}, spec{}, "", spec{ReplicasPerNodeGroup: ptr.To[int64](1)}, "availability",
		},
		"an absent field is equal to zero": {
			spec{SnapshotRetentionLimit: ptr.To[int64](0)}, spec{MultiAZEnabled: ptr.To(false)}, "", spec{SnapshotRetentionLimit: ptr.To[int64](0)}, "",
		},
		"fields of no class": {spec{Engine: ptr.To("redis")}, spec{Engine: ptr.To("valkey")}, "", spec{Engine: ptr.To("redis")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			next, class := NextChange(c.current, c.desired, c.first)
			if d := cmp.Diff(c.next, next); d != "" || class != c.class {
				t.Errorf("class %q, want %q; spec (-want +got):\n%s", class, c.class, d)
			}
		})
	}
}

// Every field of no class is as desired, but for those that cannot be changed back.
func TestWithFixed(t *testing.T) {
	var current, desired ack.ReplicationGroupSpec
	fill(reflect.ValueOf(&current).Elem())
	next := withFixed(current, desired)
	for _, c := range classes(desired) {
		if c.differ(current, next) {
			t.Errorf("the class %s changes", c.name)
		}
		c.take(&next, desired)
	}
	if d := cmp.Diff(desired, next); d != "" {
		t.Errorf("fields of no class (-want +got):\n%s", d)
	}
	current = ack.ReplicationGroupSpec{KMSKeyID: ptr.To("arn"), NetworkType: ptr.To("ipv6"), Engine: ptr.To("redis")}
	desired = ack.ReplicationGroupSpec{KMSKeyID: ptr.To("key"), NetworkType: ptr.To("ipv4"), Engine: ptr.To("valkey"), AtRestEncryptionEnabled: ptr.To(true)}
	want := ack.ReplicationGroupSpec{KMSKeyID: ptr.To("arn"), NetworkType: ptr.To("ipv6"), Engine: ptr.To("valkey"), AtRestEncryptionEnabled: ptr.To(true)}
	if d := cmp.Diff(want, withFixed(current, desired)); d != "" {
		t.Errorf("immutable fields (-want +got):\n%s", d)
	}
}

func TestDifferences(t *testing.T) {
	a := ack.ReplicationGroupSpec{ReplicasPerNodeGroup: ptr.To[int64](1)}
	b := ack.ReplicationGroupSpec{
		Description: ptr.To("d"), Tags: []*ack.Tag{{Key: ptr.To("k")}}, SecurityGroupIDs: ack.Pointers("sg"), EngineVersion: ptr.To("8"), CacheNodeType: ptr.To("n"),
		ReplicasPerNodeGroup: ptr.To[int64](2), MultiAZEnabled: ptr.To(true),
	}
	const want = "quiet tags security engine node replicas availability"
	if got := strings.Join(Differences(a, b), " "); got != want {
		t.Errorf("differences %s, want %s", got, want)
	}
}
