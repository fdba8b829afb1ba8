// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"

	"github.com/flagcache/flagcache/controllers/ack"
)

const (
	// reference is why references are not used.
	reference = "the name is used instead: ACK waits for references with exponential back-off, whereas the operator creates resources in order"
	// above refers to the row before.
	above = "as above"
	// ownID is the beginning of names in AWS of the FlagCache shop/demo.
	ownID = "-shop-demo-[0-9a-f-]+"
)

// kinds returns the claims about all kinds.
func kinds() []kind {
	return []kind{
		{"ReplicationGroup", reflect.TypeFor[ack.ReplicationGroupSpec](), nil, groupFields()},
		{"User", reflect.TypeFor[ack.UserSpec](), []change{{"authentication.type", `"IAM"`}}, userFields()},
		{"UserGroup", reflect.TypeFor[ack.UserGroupSpec](), []change{{"authentication.type", `"IAM"`}}, userGroupFields()},
		{"CacheSubnetGroup", reflect.TypeFor[ack.CacheSubnetGroupSpec](), []change{{"subnetIDs", `["subnet-1", "subnet-2"]`}}, subnetGroupFields()},
		{"CacheParameterGroup", reflect.TypeFor[ack.CacheParameterGroupSpec](), []change{{"parameters", `{"timeout": "5"}`}}, parameterGroupFields()},
		{"SecurityGroup", reflect.TypeFor[ack.SecurityGroupSpec](),
			[]change{{"vpcID", `"vpc-1"`}, {"clientSecurityGroupIDs", `["sg-1"]`}}, securityGroupFields()},
	}
}

func groupFields() []field {
	return []field{
		fixed("atRestEncryptionEnabled", "`true`", "true", "it is free of charge, cannot be changed later, and ACK would revert a change"),
		settable("authToken.name", "the Secret is generated with `Token`; omitted with `None` and `IAM`", change{"authentication.type", `"IAM"`}),
		fixed("authToken.key", "`token`", `("token")?`, "with `authentication.type: Token`"),
		unsupported("authToken.namespace", "the Secret is in the namespace of the FlagCache"),
		settable("automaticFailoverEnabled", "enabled if it is at least 1", change{"replicas", "0"}),
		settable("cacheNodeType", "", change{"nodeType", `"cache.m5.large"`}),
		settable("cacheParameterGroupName", "by default, the AWS default group of the engine version", change{"parameters", `{"timeout": "5"}`}),
		unsupported("cacheParameterGroupRef", reference),
		unsupported("cacheSecurityGroupNames", "only for EC2-Classic, which AWS has retired"),
		settable("cacheSubnetGroupName", "a group is created from the subnets; with neither it is omitted, so that AWS uses its default",
			change{"subnetGroupName", `"private"`}, change{"subnetIDs", `["subnet-1", "subnet-2"]`}),
		unsupported("cacheSubnetGroupRef", above),
		settable("dataTieringEnabled", "`true` for the family r6gd, which requires it, otherwise omitted. It cannot be changed later. "+
			"Flags fit into memory, so no data is tiered", change{"nodeType", `"cache.r6gd.xlarge"`}),
		fixed("description", "`FlagCache NAMESPACE/NAME`", `"FlagCache shop/demo.*"`,
			"with a hash of the token and a number of attempts, because ACK sends other security groups only with a change of it"),
		fixed("durability", "`default`", `"default"`, "ACK would set it otherwise. Lost data is restored from the source of flags"),
		settable("engine", "", change{"engine", `"Redis"`}),
		settable("engineVersion", "", change{"engineVersion", `"8.1"`}),
		fixed("ipDiscovery", "`ipv4`", `"ipv4"`, "ACK would set it otherwise"),
		settable("kmsKeyID", "", change{"atRestEncryption.kmsKeyID", `"key"`}),
		unsupported("kmsKeyRef", "use `atRestEncryption.kmsKeyID`"),
		unsupported("logDeliveryConfigurations", "the operator probes and measures the cache itself; a slow log is of little use with a single key"),
		settable("multiAZEnabled", "", change{"multiAZ", `"Disabled"`}),
		fixed("networkType", "`ipv4`", `"ipv4"`, "it cannot be changed later, and ACK would set it otherwise"),
		unsupported("nodeGroupConfiguration", "it assigns shards to zones; with one shard, `multiAZ` and the subnets are sufficient"),
		unsupported("notificationTopicARN", "alarms notify a topic: `alarms.topicARN`"),
		unsupported("notificationTopicRef", above),
		fixed("numNodeGroups", "`1`", "1", "flags are a single document"),
		fixed("port", "omitted, which is 6379", "", "ACK ignores changes, and security groups and NetworkPolicies contain it"),
		unsupported("preferredCacheClusterAZs", "ACK ignores changes; `multiAZ` and the subnets are sufficient"),
		settable("preferredMaintenanceWindow", "by default chosen by AWS, and ACK does not write it to the spec", change{"maintenanceWindow", `"sun:05:00-sun:06:00"`}),
		unsupported("primaryClusterID", "it creates a group from an existing node; FlagCache creates new groups only"),
		settable("replicasPerNodeGroup", "", change{"replicas", "2"}),
		fixed("replicationGroupID", "`fc-NAMESPACE-NAME-ID`", `"fc`+ownID+`"`, "another ID would be another cache, and ACK would lose track of the first"),
		settable("securityGroupIDs", "or the group created in the VPC, which admits `clientSecurityGroupIDs`",
			change{"securityGroupIDs", `["sg-1"]`}, change{"vpcID", `"vpc-1"`}),
		unsupported("securityGroupRefs", "the ID is used instead, once AWS has assigned it"),
		unsupported("snapshotARNs", "nothing is restored: the cache is filled from the source of flags"),
		unsupported("snapshotName", "as above; it could not be changed later"),
		unsupported("snapshotRef", above),
		settable("snapshotRetentionLimit", "0, which disables snapshots, without `snapshots`", change{"snapshots.retentionDays", "3"}),
		settable("snapshotWindow", "by default 03:00-04:00, because ACK would set it otherwise", change{"snapshots.window", `"01:00-02:00"`}),
		tagField("key"),
		tagField("value"),
		settable("transitEncryptionEnabled", "changed by replacement, because AWS rejects the change if there is a token", change{"transitEncryption", `"Disabled"`}),
		settable("userGroupIDs", "the user group is created with `IAM`", change{"authentication.type", `"IAM"`}),
		unsupported("userGroupRefs", "the ID is used instead, as above"),
		missing("autoMinorVersionUpgrade", "the default of AWS applies"),
		missing("clusterMode", "disabled with a single shard"),
		missing("finalSnapshotIdentifier", "`deletionPolicy: Snapshot` takes a snapshot first"),
		missing("numCacheClusters", "`replicas` plus one"),
		missing("transitEncryptionMode", "TLS is either required from creation or disabled"),
	}
}

// tagField is a field of the tags of every kind.
func tagField(name string) field {
	return settable("tags[]."+name, "in addition to those of FlagCache", change{"tags", `{"team": "shop"}`})
}

func userFields() []field {
	return []field{
		settable("accessString", "the keys and the channel of the environment, and the commands in use; see [IAM](#iam)", change{"spec.environment", `"staging"`}),
		fixed("authenticationMode.type", "`iam` or `password`", `("iam"|"password")?`,
			"`iam` for the user of the pods, `password` for the probe's, omitted for `default`"),
		fixed("authenticationMode.passwords[].name", "`NAME-cache-ID`", `("demo-cache-[0-9a-f]+")?`, "the generated Secret, for the probe's user"),
		fixed("authenticationMode.passwords[].key", "`token`", `("token")?`, "for the probe's user"),
		unsupported("authenticationMode.passwords[].namespace", "the Secret is in the namespace of the FlagCache"),
		settable("engine", "", change{"engine", `"Redis"`}),
		fixed("noPasswordRequired", "`true` or omitted", "(true)?", "`true` for the user `default`, which Redis OSS requires and which has no permissions"),
		unsupported("passwords", "`authenticationMode` has the password"),
		tagField("key"),
		tagField("value"),
		fixed("userID", "`fc-…`, `p-…` and `d-…` with `NAMESPACE-NAME-ID`", `"(fc|p|d)`+ownID+`"`, "a user of the pods, of the probe, and `default`"),
		fixed("userName", "the ID, `flagcache-probe-HASH` and `default`", `"(fc`+ownID+`|flagcache-probe-[0-9a-f]+|default)"`, "IAM requires that the name is the ID"),
	}
}

func userGroupFields() []field {
	return []field{
		settable("engine", "", change{"engine", `"Redis"`}),
		tagField("key"),
		tagField("value"),
		fixed("userGroupID", "`fc-NAMESPACE-NAME-ID`", `"fc`+ownID+`"`, "as the replication group"),
		fixed("userIDs", "the IDs of all users", `\["fc`+ownID+`","p`+ownID+`"(,"d`+ownID+`")?\]`, "of the pods and the probe, and `default` for Redis OSS"),
		unsupported("userRefs", reference),
	}
}

func subnetGroupFields() []field {
	return []field{
		fixed("cacheSubnetGroupDescription", "`FlagCache NAMESPACE/NAME`", `"FlagCache shop/demo"`, "it names the owner"),
		fixed("cacheSubnetGroupName", "`fc-NAMESPACE-NAME-ID`", `"fc`+ownID+`"`, "as the replication group"),
		settable("subnetIDs", "", change{"subnetIDs", `["subnet-1", "subnet-3"]`}),
		unsupported("subnetRefs", "the ID is used instead"),
		tagField("key"),
		tagField("value"),
	}
}

func parameterGroupFields() []field {
	return []field{
		settable("cacheParameterGroupFamily", "the family of the version", change{"engine", `"Redis"`}, change{"engineVersion", `"7.2"`}),
		fixed("cacheParameterGroupName", "`fc-NAMESPACE-NAME-ID-FAMILY`", `"fc`+ownID+`(valkey|redis)[0-9-]+"`, "another family is another group"),
		fixed("description", "`FlagCache NAMESPACE/NAME`", `"FlagCache shop/demo"`, "it names the owner"),
		settable("parameterNameValues[].parameterName", "", change{"parameters", `{"maxmemory-policy": "5"}`}),
		settable("parameterNameValues[].parameterValue", "", change{"parameters", `{"timeout": "6"}`}),
		tagField("key"),
		tagField("value"),
	}
}

func securityGroupFields() []field {
	return []field{
		fixed("description", "`FlagCache NAMESPACE/NAME`", `"FlagCache shop/demo"`, "it names the owner"),
		unsupported("egressRules", "nodes open no connections: the default of AWS applies"),
		fixed("ingressRules[].fromPort", "6379", "6379", "the port of the cache"),
		fixed("ingressRules[].ipProtocol", "`tcp`", `"tcp"`, ""),
		unsupported("ingressRules[].ipRanges", "clients are identified by their security groups"),
		unsupported("ingressRules[].ipv6Ranges", above),
		unsupported("ingressRules[].prefixListIDs", above),
		fixed("ingressRules[].toPort", "6379", "6379", "the port of the cache"),
		unsupported("ingressRules[].userIDGroupPairs[].description", "it is of no use to FlagCache"),
		settable("ingressRules[].userIDGroupPairs[].groupID", "", change{"clientSecurityGroupIDs", `["sg-2"]`}),
		unsupported("ingressRules[].userIDGroupPairs[].groupName", "the ID is used instead, because names are unique in a VPC only"),
		unsupported("ingressRules[].userIDGroupPairs[].peeringStatus", "AWS reports it"),
		unsupported("ingressRules[].userIDGroupPairs[].userID", "clients in other accounts need a security group of their own: `securityGroupIDs`"),
		unsupported("ingressRules[].userIDGroupPairs[].vpcID", "an ID of a security group is sufficient"),
		unsupported("ingressRules[].userIDGroupPairs[].vpcPeeringConnectionID", above),
		fixed("name", "`fc-NAMESPACE-NAME-ID-HASH`", `"fc`+ownID+`"`, "the hash is of the FlagCache's UID: an existing group is not taken over"),
		tagField("key"),
		tagField("value"),
		settable("vpcID", "", change{"vpcID", `"vpc-2"`}),
		unsupported("vpcRef", "the ID is used instead"),
	}
}
