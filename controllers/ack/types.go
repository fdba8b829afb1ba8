// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	ec2 "github.com/aws-controllers-k8s/ec2-controller/apis/v1alpha1"
	elasticache "github.com/aws-controllers-k8s/elasticache-controller/apis/v1alpha1"
	core "github.com/aws-controllers-k8s/runtime/apis/core/v1alpha1"
)

type (
	// ReplicationGroup is a primary node and its replicas.
	ReplicationGroup = elasticache.ReplicationGroup
	// ReplicationGroupSpec is the desired state of a ReplicationGroup.
	ReplicationGroupSpec = elasticache.ReplicationGroupSpec
	// ReplicationGroupStatus is the observed state of a ReplicationGroup.
	ReplicationGroupStatus = elasticache.ReplicationGroupStatus
	// ReplicationGroupList is a list of ReplicationGroups.
	ReplicationGroupList = elasticache.ReplicationGroupList
	// NodeGroup is a shard.
	NodeGroup = elasticache.NodeGroup
	// NodeGroupMember is a node. Its role is that of ACK's last sync, which may be ten
	// hours ago.
	NodeGroupMember = elasticache.NodeGroupMember
	// Endpoint is a host and a port.
	Endpoint = elasticache.Endpoint
	// Event is an event of AWS.
	Event = elasticache.Event

	// CacheSubnetGroup lists the subnets of a VPC for the nodes.
	CacheSubnetGroup = elasticache.CacheSubnetGroup
	// CacheSubnetGroupSpec is the desired state of a CacheSubnetGroup.
	CacheSubnetGroupSpec = elasticache.CacheSubnetGroupSpec
	// CacheSubnetGroupList is a list of CacheSubnetGroups.
	CacheSubnetGroupList = elasticache.CacheSubnetGroupList

	// CacheParameterGroup contains parameters of the engine.
	CacheParameterGroup = elasticache.CacheParameterGroup
	// CacheParameterGroupSpec is the desired state of a CacheParameterGroup.
	CacheParameterGroupSpec = elasticache.CacheParameterGroupSpec
	// CacheParameterGroupList is a list of CacheParameterGroups.
	CacheParameterGroupList = elasticache.CacheParameterGroupList
	// ParameterNameValue is a parameter of the engine.
	ParameterNameValue = elasticache.ParameterNameValue

	// User can authenticate to the replication groups of its UserGroup.
	User = elasticache.User
	// UserSpec is the desired state of a User. ACK writes AWS's name for a user without a
	// password into authenticationMode.type, which AWS does not accept as input; such a
	// user is requested with noPasswordRequired.
	UserSpec = elasticache.UserSpec
	// UserStatus is the observed state of a User.
	UserStatus = elasticache.UserStatus
	// UserList is a list of Users.
	UserList = elasticache.UserList
	// AuthenticationMode is how a User authenticates.
	AuthenticationMode = elasticache.AuthenticationMode

	// UserGroup lists the users of a replication group.
	UserGroup = elasticache.UserGroup
	// UserGroupSpec is the desired state of a UserGroup.
	UserGroupSpec = elasticache.UserGroupSpec
	// UserGroupStatus is the observed state of a UserGroup.
	UserGroupStatus = elasticache.UserGroupStatus
	// UserGroupList is a list of UserGroups.
	UserGroupList = elasticache.UserGroupList

	// Snapshot is a backup of a replication group, taken from one of its nodes.
	Snapshot = elasticache.Snapshot
	// SnapshotSpec is the desired state of a Snapshot. With cluster mode disabled AWS
	// accepts the ID of a node only, not that of a replication group.
	SnapshotSpec = elasticache.SnapshotSpec
	// SnapshotList is a list of Snapshots.
	SnapshotList = elasticache.SnapshotList

	// Tag is an AWS tag.
	Tag = elasticache.Tag

	// SecurityGroup controls who may connect to the resources that use it.
	SecurityGroup = ec2.SecurityGroup
	// SecurityGroupSpec is the desired state of a SecurityGroup.
	SecurityGroupSpec = ec2.SecurityGroupSpec
	// SecurityGroupList is a list of SecurityGroups.
	SecurityGroupList = ec2.SecurityGroupList
	// SecurityGroupTag is the AWS tag of a SecurityGroup.
	SecurityGroupTag = ec2.Tag
	// IPPermission allows security groups to connect to a range of ports.
	IPPermission = ec2.IPPermission
	// UserIDGroupPair names a security group.
	UserIDGroupPair = ec2.UserIDGroupPair

	// SecretKey refers to a key of a Secret.
	SecretKey = core.SecretKeyReference
	// ResourceMetadata identifies an AWS resource.
	ResourceMetadata = core.ResourceMetadata
	// ARN identifies an AWS resource.
	ARN = core.AWSResourceName
	// AWSRegion is the name of a region.
	AWSRegion = core.AWSRegion
	// Condition is a condition of an object.
	Condition = core.Condition
	// ConditionType is the type of a Condition.
	ConditionType = core.ConditionType
)
