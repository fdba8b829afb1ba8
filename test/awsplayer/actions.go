// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

// elastiCacheActions are the actions of ElastiCache, with the parameters that are played.
var elastiCacheActions = map[string]action{
	"CreateReplicationGroup": act(createReplicationGroup,
		"ReplicationGroupId", "ReplicationGroupDescription", "Engine", "EngineVersion", "CacheNodeType", "NumCacheClusters", "NumNodeGroups",
		"ReplicasPerNodeGroup", "AutomaticFailoverEnabled", "MultiAZEnabled", "TransitEncryptionEnabled", "AtRestEncryptionEnabled", "KmsKeyId",
		"AuthToken", "UserGroupIds", "CacheSubnetGroupName", "CacheParameterGroupName", "SecurityGroupIds", "SnapshotRetentionLimit", "SnapshotWindow",
		"SnapshotName", "PreferredMaintenanceWindow", "NotificationTopicArn", "AutoMinorVersionUpgrade", "DataTieringEnabled", "Durability",
		"IpDiscovery", "NetworkType", "Tags"),
	"DescribeReplicationGroups": act(describeReplicationGroups, "ReplicationGroupId"),
	"ModifyReplicationGroup": act(modifyReplicationGroup,
		"ReplicationGroupId", "ApplyImmediately", "ReplicationGroupDescription", "Engine", "EngineVersion", "CacheNodeType", "AutomaticFailoverEnabled",
		"MultiAZEnabled", "TransitEncryptionEnabled", "AuthToken", "AuthTokenUpdateStrategy", "UserGroupIdsToAdd", "UserGroupIdsToRemove", "RemoveUserGroups",
		"CacheParameterGroupName", "SecurityGroupIds", "SnapshotRetentionLimit", "SnapshotWindow", "SnapshottingClusterId", "PreferredMaintenanceWindow",
		"NotificationTopicArn", "AutoMinorVersionUpgrade", "Durability", "IpDiscovery"),
	"IncreaseReplicaCount": act(increaseReplicaCount, "ReplicationGroupId", "ApplyImmediately", "NewReplicaCount"),
	"DecreaseReplicaCount": act(decreaseReplicaCount, "ReplicationGroupId", "ApplyImmediately", "NewReplicaCount"),
	"ModifyReplicationGroupShardConfiguration": act(modifyShards,
		"ReplicationGroupId", "ApplyImmediately", "NodeGroupCount", "NodeGroupsToRetain", "NodeGroupsToRemove", "ReshardingConfiguration"),
	"DeleteReplicationGroup":           act(deleteReplicationGroup, "ReplicationGroupId"),
	"DescribeCacheClusters":            act(describeCacheClusters, "CacheClusterId"),
	"ListAllowedNodeTypeModifications": act(listAllowedNodeTypeModifications, "ReplicationGroupId"),

	"CreateUser":         act(createUser, "UserId", "UserName", "Engine", "AccessString", "AuthenticationMode", "Passwords", "NoPasswordRequired", "Tags"),
	"DescribeUsers":      act(describeUsers, "UserId"),
	"ModifyUser":         act(modifyUser, "UserId", "Engine", "AccessString", "AppendAccessString", "AuthenticationMode", "Passwords", "NoPasswordRequired"),
	"DeleteUser":         act(deleteUser, "UserId"),
	"CreateUserGroup":    act(createUserGroup, "UserGroupId", "Engine", "UserIds", "Tags"),
	"DescribeUserGroups": act(describeUserGroups, "UserGroupId"),
	"ModifyUserGroup":    act(modifyUserGroup, "UserGroupId", "Engine", "UserIdsToAdd", "UserIdsToRemove"),
	"DeleteUserGroup":    act(deleteUserGroup, "UserGroupId"),

	"CreateCacheSubnetGroup":    act(createCacheSubnetGroup, "CacheSubnetGroupName", "CacheSubnetGroupDescription", "SubnetIds", "Tags"),
	"DescribeCacheSubnetGroups": act(describeCacheSubnetGroups, "CacheSubnetGroupName"),
	"ModifyCacheSubnetGroup":    act(modifyCacheSubnetGroup, "CacheSubnetGroupName", "CacheSubnetGroupDescription", "SubnetIds"),
	"DeleteCacheSubnetGroup":    act(deleteCacheSubnetGroup, "CacheSubnetGroupName"),

	"CreateCacheParameterGroup":    act(createCacheParameterGroup, "CacheParameterGroupName", "CacheParameterGroupFamily", "Description", "Tags"),
	"DescribeCacheParameterGroups": act(describeCacheParameterGroups, "CacheParameterGroupName"),
	"DescribeCacheParameters":      act(describeCacheParameters, "CacheParameterGroupName", "Source"),
	"ModifyCacheParameterGroup":    act(modifyCacheParameterGroup, "CacheParameterGroupName", "ParameterNameValues"),
	"ResetCacheParameterGroup":     act(resetCacheParameterGroup, "CacheParameterGroupName", "ResetAllParameters", "ParameterNameValues"),
	"DeleteCacheParameterGroup":    act(deleteCacheParameterGroup, "CacheParameterGroupName"),

	"CreateSnapshot":    act(createSnapshot, "SnapshotName", "CacheClusterId", "ReplicationGroupId", "KmsKeyId", "Tags"),
	"CopySnapshot":      act(copySnapshot, "SourceSnapshotName", "TargetSnapshotName", "KmsKeyId", "Tags"),
	"DescribeSnapshots": act(describeSnapshots, "SnapshotName", "ReplicationGroupId", "CacheClusterId"),
	"DeleteSnapshot":    act(deleteSnapshot, "SnapshotName"),

	"AddTagsToResource":      act(addTagsToResource, "ResourceName", "Tags"),
	"RemoveTagsFromResource": act(removeTagsFromResource, "ResourceName", "TagKeys"),
	"ListTagsForResource":    act(listTagsForResource, "ResourceName"),
	"DescribeEvents":         act(describeEvents, "SourceType", "SourceIdentifier", "Duration", "MaxRecords"),
}
