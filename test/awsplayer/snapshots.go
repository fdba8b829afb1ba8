// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// snapshot is a backup of a node; the data itself is not kept.
type snapshot struct {
	name, kmsKey string
	// description is what AWS knows of the source.
	description types.Snapshot
	availableAt time.Time
	// deletedAt is when AWS has deleted the snapshot, zero unless it is being deleted.
	deletedAt time.Time
}

func (s *snapshot) status() string {
	switch {
	case !s.deletedAt.IsZero():
		return statusDeleting
	case time.Now().Before(s.availableAt):
		return statusCreating
	}
	return statusAvailable
}

// describeSnapshot describes a snapshot as AWS does.
func (a *account) describeSnapshot(s *snapshot) *types.Snapshot {
	d := s.description
	d.ARN, d.SnapshotName, d.SnapshotStatus = aws.String(a.arn("snapshot", s.name)), aws.String(s.name), aws.String(s.status())
	d.KmsKeyId = optional(s.kmsKey)
	return &d
}

// addSnapshot adds a snapshot, which becomes available after a time. The caller holds the
// lock.
func (a *account) addSnapshot(name, kmsKey *string, description types.Snapshot, tags []types.Tag) (*snapshot, error) {
	s := &snapshot{name: strings.ToLower(aws.ToString(name)), kmsKey: aws.ToString(kmsKey), description: description, availableAt: time.Now().Add(a.options.SnapshotTime)}
	if s.name == "" || len(s.name) > 255 {
		return nil, invalidValue("A snapshot requires a name.")
	}
	if a.snapshots[s.name] != nil {
		return nil, &types.SnapshotAlreadyExistsFault{Message: text("Snapshot %s already exists.", s.name)}
	}
	a.snapshots[s.name], a.tags[a.arn("snapshot", s.name)] = s, tags
	return s, nil
}

func createSnapshot(a *account, in *elasticache.CreateSnapshotInput) (*elasticache.CreateSnapshotOutput, error) {
	g, node, err := a.snapshotSource(in)
	if err != nil {
		return nil, err
	}
	if status := g.phase.status; status != statusAvailable {
		return nil, &types.InvalidReplicationGroupStateFault{Message: text("Replication group %s is %s.", g.id, status)}
	}
	c := g.current
	s, err := a.addSnapshot(in.SnapshotName, in.KmsKeyId, types.Snapshot{
		ReplicationGroupId: &g.id, ReplicationGroupDescription: &c.description, CacheClusterId: &node, CacheClusterCreateTime: &g.created,
		AutomaticFailover: failoverStatus(c.automaticFailover, c.automaticFailover), AutoMinorVersionUpgrade: &c.autoMinorVersionUpgrade,
		CacheNodeType: &c.nodeType, CacheParameterGroupName: &c.parameterGroup, CacheSubnetGroupName: &g.subnetGroup,
		DataTiering: types.DataTieringStatusDisabled, Durability: c.durability, Engine: &c.engine, EngineVersion: &c.engineVersion,
		NumCacheNodes: aws.Int32(1), NumNodeGroups: aws.Int32(1), Port: aws.Int32(6379), PreferredAvailabilityZone: aws.String(a.zoneOf(node)),
		PreferredMaintenanceWindow: &c.maintenanceWindow, SnapshotRetentionLimit: &c.retention, SnapshotSource: aws.String("manual"),
		SnapshotWindow: &c.snapshotWindow, VpcId: aws.String("vpc-0"),
		NodeSnapshots: []types.NodeSnapshot{{CacheNodeId: aws.String("0001"), CacheNodeCreateTime: &g.created, CacheSize: aws.String("1 MB"), SnapshotCreateTime: aws.Time(time.Now().UTC())}},
	}, in.Tags)
	if err != nil {
		return nil, err
	}
	a.startPhase(g, statusSnapshotting, a.options.SnapshotTime, nil)
	return &elasticache.CreateSnapshotOutput{Snapshot: a.describeSnapshot(s)}, nil
}

// snapshotSource returns the node that a request takes a snapshot of, and its group. The
// caller holds the lock.
func (a *account) snapshotSource(in *elasticache.CreateSnapshotInput) (*group, string, error) {
	if in.CacheClusterId == nil {
		if _, err := a.findGroup(in.ReplicationGroupId); err != nil {
			return nil, "", err
		}
		return nil, "", invalidCombination("Cluster mode is disabled, so that a snapshot requires CacheClusterId.")
	}
	if in.ReplicationGroupId != nil {
		return nil, "", invalidCombination("CacheClusterId and ReplicationGroupId exclude each other.")
	}
	for _, g := range a.groups {
		if slices.Contains(g.memberClusters(), *in.CacheClusterId) {
			return g, *in.CacheClusterId, nil
		}
	}
	return nil, "", &types.CacheClusterNotFoundFault{Message: text("CacheCluster not found: %s", *in.CacheClusterId)}
}

// findSnapshot returns the snapshot with a name. The caller holds the lock.
func (a *account) findSnapshot(name *string) (*snapshot, error) {
	if s := a.snapshots[strings.ToLower(aws.ToString(name))]; s != nil {
		return s, nil
	}
	return nil, &types.SnapshotNotFoundFault{Message: text("Snapshot %s not found.", aws.ToString(name))}
}

func copySnapshot(a *account, in *elasticache.CopySnapshotInput) (*elasticache.CopySnapshotOutput, error) {
	source, err := a.findSnapshot(in.SourceSnapshotName)
	if err != nil {
		return nil, err
	}
	if source.status() != statusAvailable {
		return nil, &types.InvalidSnapshotStateFault{Message: text("Snapshot %s is %s.", source.name, source.status())}
	}
	s, err := a.addSnapshot(in.TargetSnapshotName, in.KmsKeyId, source.description, in.Tags)
	if err != nil {
		return nil, err
	}
	return &elasticache.CopySnapshotOutput{Snapshot: a.describeSnapshot(s)}, nil
}

// describeSnapshots responds with the snapshots of a name, of a group or of a node. None of a name
// is no error: ACK creates a snapshot only after it found none.
func describeSnapshots(a *account, in *elasticache.DescribeSnapshotsInput) (*elasticache.DescribeSnapshotsOutput, error) {
	out := &elasticache.DescribeSnapshotsOutput{Snapshots: []types.Snapshot{}}
	for _, name := range sortedKeys(a.snapshots) {
		d := a.describeSnapshot(a.snapshots[name])
		if matches(in.SnapshotName, d.SnapshotName) && matches(in.ReplicationGroupId, d.ReplicationGroupId) && matches(in.CacheClusterId, d.CacheClusterId) {
			out.Snapshots = append(out.Snapshots, *d)
		}
	}
	return out, nil
}

// matches reports whether a value is the one that is asked for, if any.
func matches(filter, value *string) bool {
	return filter == nil || strings.EqualFold(*filter, aws.ToString(value))
}

func deleteSnapshot(a *account, in *elasticache.DeleteSnapshotInput) (*elasticache.DeleteSnapshotOutput, error) {
	s, err := a.findSnapshot(in.SnapshotName)
	if err != nil {
		return nil, err
	}
	if s.status() != statusAvailable {
		return nil, &types.InvalidSnapshotStateFault{Message: text("Snapshot %s is %s.", s.name, s.status())}
	}
	s.deletedAt = time.Now().Add(a.options.DeleteTime)
	return &elasticache.DeleteSnapshotOutput{Snapshot: a.describeSnapshot(s)}, nil
}
