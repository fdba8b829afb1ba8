// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// onlyWritten removes the fields from an observed object's spec that FlagCache does not
// write: applied again, they would be taken from whoever wrote them.
func onlyWritten(o observed.Object) {
	switch o := o.(type) {
	case *ack.ReplicationGroup:
		o.Spec = writtenSpec(o.Spec)
	case *ack.CacheSubnetGroup:
		o.Spec = ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName:        o.Spec.CacheSubnetGroupName,
			CacheSubnetGroupDescription: o.Spec.CacheSubnetGroupDescription,
			SubnetIDs:                   o.Spec.SubnetIDs,
			Tags:                        o.Spec.Tags,
		}
	case *ack.UserGroup:
		o.Spec = ack.UserGroupSpec{
			UserGroupID: o.Spec.UserGroupID,
			Engine:      o.Spec.Engine,
			UserIDs:     o.Spec.UserIDs,
			Tags:        o.Spec.Tags,
		}
	case *ack.User:
		o.Spec.Passwords = nil
	case *ack.SecurityGroup:
		o.Spec = ack.SecurityGroupSpec{
			Name:         o.Spec.Name,
			Description:  o.Spec.Description,
			VPCID:        o.Spec.VPCID,
			IngressRules: o.Spec.IngressRules,
			Tags:         o.Spec.Tags,
		}
	}
}

// writtenSpec is the part of a group's spec that FlagCache writes.
func writtenSpec(spec ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	return ack.ReplicationGroupSpec{
		ReplicationGroupID:         spec.ReplicationGroupID,
		Description:                spec.Description,
		Engine:                     spec.Engine,
		EngineVersion:              spec.EngineVersion,
		CacheNodeType:              spec.CacheNodeType,
		DataTieringEnabled:         spec.DataTieringEnabled,
		NumNodeGroups:              spec.NumNodeGroups,
		ReplicasPerNodeGroup:       spec.ReplicasPerNodeGroup,
		AutomaticFailoverEnabled:   spec.AutomaticFailoverEnabled,
		MultiAZEnabled:             spec.MultiAZEnabled,
		TransitEncryptionEnabled:   spec.TransitEncryptionEnabled,
		AtRestEncryptionEnabled:    spec.AtRestEncryptionEnabled,
		KMSKeyID:                   spec.KMSKeyID,
		AuthToken:                  spec.AuthToken,
		UserGroupIDs:               spec.UserGroupIDs,
		CacheSubnetGroupName:       spec.CacheSubnetGroupName,
		CacheParameterGroupName:    spec.CacheParameterGroupName,
		SecurityGroupIDs:           spec.SecurityGroupIDs,
		SnapshotRetentionLimit:     spec.SnapshotRetentionLimit,
		SnapshotWindow:             spec.SnapshotWindow,
		PreferredMaintenanceWindow: spec.PreferredMaintenanceWindow,
		IPDiscovery:                spec.IPDiscovery,
		NetworkType:                spec.NetworkType,
		Durability:                 spec.Durability,
		Tags:                       spec.Tags,
	}
}
