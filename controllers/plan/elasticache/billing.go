// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"strings"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Bill implements cache.Planner.
func (Planner) Bill(x *observed.Index) []cost.Group {
	var bill []cost.Group
	for _, g := range observed.All[*ack.ReplicationGroup](x) {
		bill = append(bill, billed(g))
	}
	return bill
}

// assess is the cost of the existing groups and of the requested one, nil where that
// does not exist yet. While one replaces another both are billed.
func assess(x *observed.Index, d desired, own *ack.ReplicationGroup, rejected bool) cost.Assessment {
	var current, desired []cost.Group
	for _, g := range observed.All[*ack.ReplicationGroup](x) {
		current = append(current, billed(g))
		if g.Name != d.object() || rejected {
			desired = append(desired, billed(g))
		}
	}
	if !rejected {
		desired = append(desired, requested(d, regionFor(x, d, own)))
	}
	return cost.Assess(x.FlagCache.Spec.Budget, current, desired)
}

// requested is the group that the spec requests.
func requested(d desired, region string) cost.Group {
	b := cost.Group{Engine: d.spec.Engine, NodeType: d.spec.NodeType, Nodes: d.spec.Replicas + 1, Region: region}
	if d.spec.Snapshots != nil {
		b.SnapshotDays = d.spec.Snapshots.RetentionDays
	}
	return b
}

// billed is an existing group.
func billed(g *ack.ReplicationGroup) cost.Group {
	b := cost.Group{
		Engine: v1alpha1.EngineRedis, NodeType: g.Spec.CacheNodeType,
		Nodes: int32(g.Spec.ReplicasPerNodeGroup) + 1, Region: regionOf(g), SnapshotDays: int32(g.Spec.SnapshotRetentionLimit),
	}
	if g.Spec.Engine == strings.ToLower(string(v1alpha1.EngineValkey)) {
		b.Engine = v1alpha1.EngineValkey
	}
	return b
}

// regionFor is the spec's region, else that of the cache's own group, else that in
// which ACK created another group whose spec has none.
func regionFor(x *observed.Index, d desired, own *ack.ReplicationGroup) string {
	switch {
	case d.spec.Region != "":
		return d.spec.Region
	case own != nil:
		return regionOf(own)
	}
	for _, other := range observed.All[*ack.ReplicationGroup](x) {
		if other.Annotations[ack.AnnotationRegion] == "" {
			return regionOf(other)
		}
	}
	return ""
}

// regionOf a group is "" while AWS has not reported it and the spec has none.
func regionOf(g *ack.ReplicationGroup) string {
	if region := g.Annotations[ack.AnnotationRegion]; region != "" {
		return region
	}
	if meta := g.Status.ACKResourceMetadata; meta != nil {
		return meta.Region
	}
	return ""
}
