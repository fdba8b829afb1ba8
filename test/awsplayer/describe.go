// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// describeGroup describes a group as AWS does. The caller holds the lock.
func (a *account) describeGroup(g *group) *types.ReplicationGroup {
	s, status := g.current, g.phase.status
	out := &types.ReplicationGroup{
		ARN: aws.String(a.arn("replicationgroup", g.id)), ReplicationGroupId: &g.id, ReplicationGroupCreateTime: &g.created, Status: &status,
		AtRestEncryptionEnabled: &g.atRest, TransitEncryptionEnabled: &g.transit, KmsKeyId: optional(g.kmsKey),
		AuthTokenEnabled: aws.Bool(len(s.tokens) > 0), AutoMinorVersionUpgrade: &s.autoMinorVersionUpgrade,
		AutomaticFailover: failoverStatus(s.automaticFailover, g.next.automaticFailover), MultiAZ: types.MultiAZStatusDisabled,
		CacheNodeType: &s.nodeType, ClusterEnabled: aws.Bool(false), ClusterMode: types.ClusterModeDisabled, DataTiering: types.DataTieringStatusDisabled,
		Description: &s.description, Durability: s.durability, EffectiveDurability: types.EffectiveDurabilityAsync, Engine: &s.engine,
		IpDiscovery: s.ipDiscovery, NetworkType: g.networkType, MemberClusters: g.memberClusters(), NodeGroups: []types.NodeGroup{a.describeShard(g)},
		PendingModifiedValues:  g.pending(),
		SnapshotRetentionLimit: &s.retention, SnapshotWindow: &s.snapshotWindow, SnapshottingClusterId: g.snapshottingCluster(),
		StorageEncryptionType: types.StorageEncryptionTypeNone, UserGroupIds: s.userGroups,
	}
	if s.multiAZ {
		out.MultiAZ = types.MultiAZStatusEnabled
	}
	if g.dataTiering {
		out.DataTiering = types.DataTieringStatusEnabled
	}
	if g.transit {
		out.TransitEncryptionMode = types.TransitEncryptionModeRequired
	}
	if g.atRest {
		out.StorageEncryptionType = types.StorageEncryptionTypeSseElasticache
	}
	if !g.tokenChanged.IsZero() {
		out.AuthTokenLastModifiedDate = &g.tokenChanged
	}
	if len(s.userGroups) == 0 {
		out.UserGroupIds = nil
	}
	return out
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func failoverStatus(current, next bool) types.AutomaticFailoverStatus {
	switch {
	case current && next:
		return types.AutomaticFailoverStatusEnabled
	case current:
		return types.AutomaticFailoverStatusDisabling
	case next:
		return types.AutomaticFailoverStatusEnabling
	}
	return types.AutomaticFailoverStatusDisabled
}

// memberClusters are the IDs of all nodes, those that do not run yet included.
func (g *group) memberClusters() []string {
	ids := []string{}
	for _, n := range g.nodes() {
		ids = append(ids, n.ID)
	}
	if g.phase.status == statusCreating {
		for n := len(ids) + 1; n <= 1+g.current.replicas; n++ {
			ids = append(ids, fmt.Sprintf("%s-%03d", g.id, n))
		}
	}
	slices.Sort(ids)
	return ids
}

// snapshottingCluster is the node that daily snapshots are taken from.
func (g *group) snapshottingCluster() *string {
	nodes := g.nodes()
	switch {
	case g.current.retention == 0 || len(nodes) == 0:
		return nil
	case g.current.snapshottingCluster != "":
		return &g.current.snapshottingCluster
	}
	return &nodes[len(nodes)-1].ID
}

func (g *group) pending() *types.ReplicationGroupPendingModifiedValues {
	pending := &types.ReplicationGroupPendingModifiedValues{}
	if !slices.Equal(g.current.tokens, g.next.tokens) {
		pending.AuthTokenStatus = types.AuthTokenUpdateStatusRotating
		if len(g.next.tokens) < 2 && !g.next.open {
			pending.AuthTokenStatus = types.AuthTokenUpdateStatusSetting
		}
	}
	if g.current.automaticFailover != g.next.automaticFailover {
		pending.AutomaticFailoverStatus = types.PendingAutomaticFailoverStatusDisabled
		if g.next.automaticFailover {
			pending.AutomaticFailoverStatus = types.PendingAutomaticFailoverStatusEnabled
		}
	}
	if !slices.Equal(g.current.userGroups, g.next.userGroups) {
		pending.UserGroups = &types.UserGroupsUpdateStatus{
			UserGroupIdsToAdd: without(g.next.userGroups, g.current.userGroups), UserGroupIdsToRemove: without(g.current.userGroups, g.next.userGroups),
		}
	}
	return pending
}

// without returns the elements of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// describeShard describes the only shard of a group. The caller holds the lock.
func (a *account) describeShard(g *group) types.NodeGroup {
	status := g.phase.status
	if status == statusSnapshotting {
		status = statusAvailable
	}
	shard := types.NodeGroup{NodeGroupId: aws.String("0001"), Status: &status}
	if status == statusCreating || status == statusCreateFailed {
		return shard // without endpoints and nodes
	}
	shard.PrimaryEndpoint = a.endpoint(g.fleet.WriterPort())
	shard.ReaderEndpoint = a.endpoint(g.fleet.ReaderPort())
	for i, n := range g.nodes() {
		member := types.NodeGroupMember{
			CacheClusterId: &n.ID, CacheNodeId: aws.String("0001"), CurrentRole: aws.String("replica"),
			PreferredAvailabilityZone: aws.String(a.zoneOf(n.ID)), ReadEndpoint: a.endpoint(n.Port),
		}
		if i == 0 {
			member.CurrentRole = aws.String("primary")
		}
		shard.NodeGroupMembers = append(shard.NodeGroupMembers, member)
	}
	return shard
}

// zoneOf is the availability zone of a node: they take turns.
func (a *account) zoneOf(node string) string {
	return a.region + string("abc"[int(node[len(node)-1]-'0')%3])
}

func (a *account) endpoint(port int) *types.Endpoint {
	return &types.Endpoint{Address: &a.options.AdvertiseHost, Port: aws.Int32(int32(port))}
}

// describeCacheClusters describes nodes, which AWS calls cache clusters.
func describeCacheClusters(a *account, in *elasticache.DescribeCacheClustersInput) (*elasticache.DescribeCacheClustersOutput, error) {
	out := &elasticache.DescribeCacheClustersOutput{CacheClusters: []types.CacheCluster{}}
	for _, id := range sortedKeys(a.groups) {
		g := a.groups[id]
		for _, node := range g.memberClusters() {
			if in.CacheClusterId == nil || strings.EqualFold(node, *in.CacheClusterId) {
				out.CacheClusters = append(out.CacheClusters, a.describeNode(g, node))
			}
		}
	}
	if in.CacheClusterId != nil && len(out.CacheClusters) == 0 {
		return nil, &types.CacheClusterNotFoundFault{Message: text("CacheCluster not found: %s", *in.CacheClusterId)}
	}
	return out, nil
}

// describeNode describes a node of a group. The caller holds the lock.
func (a *account) describeNode(g *group, id string) types.CacheCluster {
	s, status := g.current, g.phase.status
	node := types.CacheCluster{
		ARN: aws.String(a.arn("cluster", id)), CacheClusterId: &id, ReplicationGroupId: &g.id, CacheClusterStatus: &status, CacheClusterCreateTime: &g.created,
		AtRestEncryptionEnabled: &g.atRest, TransitEncryptionEnabled: &g.transit, AuthTokenEnabled: aws.Bool(len(s.tokens) > 0),
		AutoMinorVersionUpgrade: &s.autoMinorVersionUpgrade, CacheNodeType: &s.nodeType, Engine: &s.engine, EngineVersion: &s.engineVersion,
		CacheParameterGroup:  &types.CacheParameterGroupStatus{CacheParameterGroupName: &s.parameterGroup, ParameterApplyStatus: aws.String("in-sync")},
		CacheSubnetGroupName: &g.subnetGroup, IpDiscovery: s.ipDiscovery, NetworkType: g.networkType, NumCacheNodes: aws.Int32(1),
		PreferredAvailabilityZone: aws.String(a.zoneOf(id)), PreferredMaintenanceWindow: &s.maintenanceWindow,
		SnapshotRetentionLimit: &s.retention, SnapshotWindow: &s.snapshotWindow, PendingModifiedValues: &types.PendingModifiedValues{},
	}
	for _, id := range s.securityGroups {
		node.SecurityGroups = append(node.SecurityGroups, types.SecurityGroupMembership{SecurityGroupId: &id, Status: aws.String("active")})
	}
	if s.notificationTopic != "" {
		node.NotificationConfiguration = &types.NotificationConfiguration{TopicArn: &s.notificationTopic, TopicStatus: aws.String("active")}
	}
	return node
}

// listAllowedNodeTypeModifications returns the types of the current family, by size.
func listAllowedNodeTypeModifications(a *account, in *elasticache.ListAllowedNodeTypeModificationsInput) (*elasticache.ListAllowedNodeTypeModificationsOutput, error) {
	g, err := a.findAvailable(in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	out := &elasticache.ListAllowedNodeTypeModificationsOutput{ScaleUpModifications: []string{}, ScaleDownModifications: []string{}}
	current := slices.Index(nodeTypes, g.current.nodeType)
	for i, nodeType := range nodeTypes {
		switch {
		case strings.HasPrefix(nodeType, "cache.r6gd.") != g.dataTiering:
		case i < current:
			out.ScaleDownModifications = append(out.ScaleDownModifications, nodeType)
		case i > current:
			out.ScaleUpModifications = append(out.ScaleUpModifications, nodeType)
		}
	}
	return out, nil
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
