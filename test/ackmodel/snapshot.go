// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elasticache "github.com/aws-controllers-k8s/elasticache-controller/apis/v1alpha1"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Snapshot is a snapshot in AWS.
type Snapshot struct {
	Spec  ack.SnapshotSpec
	State string
	// Created is the time of the call.
	Created time.Time
	// Group is the source at that time, and Node the number of its node.
	Group Group
	Node  int
	// Done is when it is available.
	Done time.Time
}

const snapshotCreating = "creating"

type snapshotManager struct{}

func (snapshotManager) terminal() []string {
	return []string{
		"InvalidParameter", "InvalidParameterValue", "InvalidParameterCombination", "SnapshotAlreadyExistsFault", "SnapshotQuotaExceededFault",
		"SnapshotFeatureNotSupportedFault",
	}
}

func (snapshotManager) find(s *session, o client.Object) (client.Object, error) {
	latest := o.(*ack.Snapshot)
	known, ok := s.Snapshots[*latest.Spec.SnapshotName]
	err := s.call("DescribeSnapshots", "", func() error {
		if !ok {
			return errNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	describeSnapshot(latest, known)
	return latest, nil
}

func describeSnapshot(o *ack.Snapshot, known Snapshot) {
	setMetadata(o, arn("snapshot", *known.Spec.SnapshotName))
	source, created := known.Group.Spec.DeepCopy(), metav1.NewTime(known.Group.Created)
	o.Spec.SnapshotName, o.Spec.CacheClusterID, o.Spec.ReplicationGroupID = known.Spec.SnapshotName, known.Spec.CacheClusterID, source.ReplicationGroupID
	o.Status = elasticache.SnapshotStatus{
		ACKResourceMetadata: o.Status.ACKResourceMetadata, Conditions: o.Status.Conditions, SnapshotStatus: ptr.To(known.State), SnapshotSource: ptr.To("manual"),
		AutoMinorVersionUpgrade: ptr.To(true), AutomaticFailover: ptr.To(enabled(*source.AutomaticFailoverEnabled)), CacheClusterCreateTime: &created,
		CacheNodeType: source.CacheNodeType, CacheParameterGroupName: source.CacheParameterGroupName, CacheSubnetGroupName: source.CacheSubnetGroupName,
		DataTiering: ptr.To(enabled(false)), Engine: source.Engine, EngineVersion: source.EngineVersion, NumCacheNodes: ptr.To[int64](1), NumNodeGroups: ptr.To[int64](1),
		NodeSnapshots: []*elasticache.NodeSnapshot{{
			CacheNodeID: ptr.To("0001"), CacheNodeCreateTime: &created, CacheSize: ptr.To("1 MB"), SnapshotCreateTime: ptr.To(metav1.NewTime(known.Created)),
		}},
		Port: ptr.To[int64](port), PreferredAvailabilityZone: ptr.To(zone(known.Node)), PreferredMaintenanceWindow: source.PreferredMaintenanceWindow,
		ReplicationGroupDescription: source.Description, SnapshotRetentionLimit: source.SnapshotRetentionLimit, SnapshotWindow: source.SnapshotWindow, VPCID: ptr.To(vpc),
	}
	synced := corev1.ConditionFalse
	if known.State == ack.SnapshotAvailable {
		synced = corev1.ConditionTrue
	}
	setStatus(o, ack.ConditionSynced, synced)
}

func (snapshotManager) create(s *session, o client.Object) (client.Object, error) {
	const action = "CreateSnapshot"
	created := o.(*ack.Snapshot)
	name, node := *created.Spec.SnapshotName, ack.Value(created.Spec.CacheClusterID)
	err := s.call(action, name, func() error {
		for _, g := range s.Groups {
			number := slices.Index(ack.Values(g.nodes()), node)
			if number < 0 {
				continue
			}
			if g.State != ack.GroupAvailable {
				return Error{action, "InvalidCacheClusterState", fmt.Sprintf("Cache cluster %s is %s.", node, g.State)}
			}
			g.State, g.Done = ack.GroupSnapshotting, s.now.Add(s.Timing.Operation)
			s.Groups[*g.Spec.ReplicationGroupID] = g
			s.Snapshots[name] = Snapshot{Spec: *created.Spec.DeepCopy(), State: snapshotCreating, Done: s.now.Add(s.Timing.Operation), Created: s.now.UTC().Truncate(time.Second), Group: g, Node: number + 1}
			return nil
		}
		return Error{action, "CacheClusterNotFound", fmt.Sprintf("CacheCluster not found: %s", node)}
	})
	if err != nil {
		return nil, err
	}
	describeSnapshot(created, s.Snapshots[name])
	return created, nil
}

// update does nothing: AWS has no such call.
func (snapshotManager) update(_ *session, _, latest client.Object, _ fields) (client.Object, error) {
	return latest, nil
}

func (snapshotManager) remove(s *session, o client.Object) (client.Object, error) {
	name := *o.(*ack.Snapshot).Spec.SnapshotName
	return nil, s.call("DeleteSnapshot", name, func() error { delete(s.Snapshots, name); return nil })
}

func (snapshotManager) compare(a, b client.Object) fields { return compareSpecs(a, b) }

// simpleManager manages the kinds of other controllers of ACK, whose resources AWS creates at once.
type simpleManager struct{}

func (simpleManager) terminal() []string { return nil }

func (simpleManager) find(_ *session, o client.Object) (client.Object, error) {
	_, metadata := managed(o)
	if *metadata == nil || (*metadata).ARN == nil {
		return nil, errNotFound
	}
	return o, nil
}

func (m simpleManager) create(s *session, o client.Object) (client.Object, error) {
	err := s.call("Create"+ack.KindOf(o).Kind, o.GetName(), func() error { return nil })
	if err != nil {
		return nil, err
	}
	setMetadata(o, "arn:aws:"+ack.KindOf(o).Group+":"+o.GetName())
	if group, ok := o.(*ack.SecurityGroup); ok {
		group.Status.ID = ptr.To("sg-" + ack.Value(group.Spec.Name))
	}
	return o, nil
}

func (simpleManager) update(_ *session, desired, _ client.Object, _ fields) (client.Object, error) {
	return desired, nil
}

// remove waits until no replication group has a security group.
func (simpleManager) remove(s *session, o client.Object) (client.Object, error) {
	action := "Delete" + ack.KindOf(o).Kind
	return nil, s.call(action, o.GetName(), func() error {
		group, ok := o.(*ack.SecurityGroup)
		if !ok {
			return nil
		}
		id := ack.Value(group.Status.ID)
		for _, g := range s.Groups {
			if setOf(g.Spec.SecurityGroupIDs)[id] || setOf(g.Pending.SecurityGroupIDs)[id] {
				return Error{action, "DependencyViolation", fmt.Sprintf("resource %s has a dependent object", id)}
			}
		}
		return nil
	})
}

func (simpleManager) compare(a, b client.Object) fields { return fields{} }

// managerOf returns the manager of the kind of an object.
func managerOf(o client.Object) manager {
	switch o.(type) {
	case *ack.ReplicationGroup:
		return groupManager{}
	case *ack.User:
		return userManager{}
	case *ack.UserGroup:
		return userGroupManager{}
	case *ack.Snapshot:
		return snapshotManager{}
	case *ack.CacheSubnetGroup:
		return subnetGroupManager{}
	case *ack.CacheParameterGroup:
		return parameterGroupManager{}
	default:
		return simpleManager{}
	}
}
