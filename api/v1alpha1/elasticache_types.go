// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Engine is the engine of a replication group.
//
// +kubebuilder:validation:Enum=Redis;Valkey
type Engine string

// Engines.
const (
	EngineRedis  Engine = "Redis"
	EngineValkey Engine = "Valkey"
)

// Switch is Enabled or Disabled.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type Switch string

// Values of a Switch.
const (
	Enabled  Switch = "Enabled"
	Disabled Switch = "Disabled"
)

// ElastiCacheSpec is an ElastiCache replication group, created through ACK. Fields
// that AWS cannot change in place (engine, subnets, VPC, KMS key, encryption in
// transit, authentication type, region, data tiering, whether there are snapshots) are
// changed by creating a second group, which replaces the first when its canary has passed.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.vpcID) && has(self.securityGroupIDs))",message="elastiCache.vpcID (a managed security group) and elastiCache.securityGroupIDs (existing ones) are mutually exclusive: remove one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.securityGroupIDs) || has(self.securityGroupIDs) || has(self.vpcID)",message="elastiCache.securityGroupIDs cannot be removed, because ACK would leave them in place: replace them with others, such as the VPC's default security group, or set vpcID to replace the cache with one that has a managed security group"
// +kubebuilder:validation:XValidation:rule="has(self.vpcID) == has(self.clientSecurityGroupIDs)",message="elastiCache.vpcID and elastiCache.clientSecurityGroupIDs must be set together"
// +kubebuilder:validation:XValidation:rule="!(has(self.subnetIDs) && has(self.subnetGroupName))",message="elastiCache.subnetIDs and elastiCache.subnetGroupName are mutually exclusive: remove one"
// +kubebuilder:validation:XValidation:rule="self.replicas > 0 || self.multiAZ == 'Disabled'",message="elastiCache.multiAZ Enabled requires at least one replica: increase replicas or set multiAZ to Disabled"
// +kubebuilder:validation:XValidation:rule="self.transitEncryption == 'Required' || self.authentication.type == 'None'",message="elastiCache.authentication types Token and IAM require elastiCache.transitEncryption Required: AWS does not accept credentials over plain text"
// +kubebuilder:validation:XValidation:rule="self.engine != 'Redis' || int(self.engineVersion.split('.')[0]) <= 7",message="elastiCache.engineVersion of engine Redis must be at most 7.1: set engineVersion to 7.1, or engine to Valkey"
// +kubebuilder:validation:XValidation:rule="self.engine != 'Valkey' || int(self.engineVersion.split('.')[0]) >= 8 || self.engineVersion.startsWith('7.2')",message="elastiCache.engineVersion of engine Valkey must be at least 7.2: increase engineVersion, or set engine to Redis"
// +kubebuilder:validation:XValidation:rule="self.authentication.type != 'IAM' || int(self.engineVersion.split('.')[0]) >= 7",message="elastiCache.authentication type IAM requires engineVersion 7.0 or later"
// +kubebuilder:validation:XValidation:rule="!self.nodeType.contains('gd.') || int(self.engineVersion.split('.')[0]) > 6 || self.engineVersion.startsWith('6.2')",message="elastiCache.nodeType of the family r6gd has data tiering, which requires engineVersion 6.2 or later"
type ElastiCacheSpec struct {
	// engine is Redis or Valkey. Default: Valkey.
	// +optional
	// +kubebuilder:default=Valkey
	Engine Engine `json:"engine,omitempty"`

	// engineVersion, for example "8.0". Default: "8.0".
	// +optional
	// +kubebuilder:default="8.0"
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^[0-9]+\.[0-9]+(\.[0-9]+)?$`
	EngineVersion string `json:"engineVersion,omitempty"`

	// nodeType of every node. Node types of the family r6gd have data tiering, so
	// changing from or to that family replaces the cache. Default: cache.t3.micro.
	// +optional
	// +kubebuilder:default=cache.t3.micro
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^cache\.[a-z0-9-]+\.[a-z0-9]+$`
	NodeType string `json:"nodeType,omitempty"`

	// replicas is the number of read replicas, 0 to 5; with 0 there is a single node
	// and no failover. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=5
	Replicas int32 `json:"replicas"`

	// multiAZ distributes the nodes over several availability zones. Default: Enabled.
	// +optional
	// +kubebuilder:default=Enabled
	MultiAZ Switch `json:"multiAZ,omitempty"`

	// vpcID is the VPC in which a security group is created and managed that admits
	// clientSecurityGroupIDs on TCP port 6379. Mutually exclusive with
	// securityGroupIDs.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^vpc-[0-9a-f]+$`
	VPCID string `json:"vpcID,omitempty"`

	// clientSecurityGroupIDs are the security groups that the managed security group
	// admits.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	ClientSecurityGroupIDs []SecurityGroupID `json:"clientSecurityGroupIDs,omitempty"`

	// securityGroupIDs are existing security groups, which are not managed. They can be
	// replaced with others but not removed, because ACK does not support that. Mutually
	// exclusive with vpcID.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=5
	SecurityGroupIDs []SecurityGroupID `json:"securityGroupIDs,omitempty"`

	// subnetIDs of a subnet group that is created and managed. Mutually exclusive with
	// subnetGroupName.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	SubnetIDs []SubnetID `json:"subnetIDs,omitempty"`

	// subnetGroupName is the name of an existing subnet group. Mutually exclusive with
	// subnetIDs. Default: the default subnet group of the region.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	SubnetGroupName string `json:"subnetGroupName,omitempty"`

	// parameters of the engine, for example maxmemory-policy: allkeys-lru.
	// +optional
	// +kubebuilder:validation:MaxProperties=20
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 255)",message="the keys of elastiCache.parameters must have at most 255 characters"
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`

	// authentication of clients. Default: a generated token.
	// +optional
	// +kubebuilder:default={}
	Authentication ElastiCacheAuthentication `json:"authentication,omitempty,omitzero"`

	// transitEncryption is Required or Disabled. Default: Required.
	// +optional
	// +kubebuilder:default=Required
	TransitEncryption TransitEncryption `json:"transitEncryption,omitempty"`

	// atRestEncryption configures the KMS key of the encryption at rest, which is always
	// enabled.
	// +optional
	AtRestEncryption *AtRestEncryption `json:"atRestEncryption,omitempty"`

	// maintenanceWindow is the weekly maintenance window in UTC, for example
	// "sun:05:00-sun:07:00". Default: chosen by AWS.
	// +optional
	// +kubebuilder:validation:MaxLength=19
	// +kubebuilder:validation:Pattern=`^(mon|tue|wed|thu|fri|sat|sun):[0-2][0-9]:[0-5][0-9]-(mon|tue|wed|thu|fri|sat|sun):[0-2][0-9]:[0-5][0-9]$`
	MaintenanceWindow string `json:"maintenanceWindow,omitempty"`

	// snapshots configures daily snapshots. Enabling or disabling them replaces the
	// cache, with a canary. Default: none.
	// +optional
	Snapshots *SnapshotsSpec `json:"snapshots,omitempty"`

	// alarms configures CloudWatch alarms on the replication group. Default: none.
	// +optional
	Alarms *AlarmsSpec `json:"alarms,omitempty"`

	// tags of every AWS resource, in addition to those that FlagCache sets.
	// +optional
	// +kubebuilder:validation:MaxProperties=40
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 128)",message="the keys of elastiCache.tags must have at most 128 characters"
	Tags map[string]TagValue `json:"tags,omitempty"`

	// region of the AWS resources. Default: the region of the ACK controller.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[a-z]{2}(-[a-z]+)+-[0-9]$`
	Region string `json:"region,omitempty"`
}

// SecurityGroupID is the ID of an EC2 security group.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^sg-[0-9a-f]+$`
type SecurityGroupID string

// SubnetID is the ID of a VPC subnet.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^subnet-[0-9a-f]+$`
type SubnetID string

// ParameterValue is the value of an engine parameter.
//
// +kubebuilder:validation:MaxLength=256
type ParameterValue string

// TagValue is the value of an AWS tag.
//
// +kubebuilder:validation:MaxLength=256
type TagValue string

// TransitEncryption is whether clients must use TLS.
//
// +kubebuilder:validation:Enum=Required;Disabled
type TransitEncryption string

// Values of TransitEncryption.
const (
	TransitEncryptionRequired TransitEncryption = "Required"
	TransitEncryptionDisabled TransitEncryption = "Disabled"
)

// ElastiCacheAuthenticationType is how clients authenticate.
//
// +kubebuilder:validation:Enum=Token;IAM;None
type ElastiCacheAuthenticationType string

// Authentication types.
const (
	// AuthenticationToken is an AUTH token that is generated and can be rotated.
	AuthenticationToken ElastiCacheAuthenticationType = "Token"
	// AuthenticationIAM is a short-lived token derived from the credentials of an IAM
	// role.
	AuthenticationIAM ElastiCacheAuthenticationType = "IAM"
	// AuthenticationNone is no authentication.
	AuthenticationNone ElastiCacheAuthenticationType = "None"
)

// ElastiCacheAuthentication configures how clients authenticate.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'Token' || !has(self.rotationInterval)",message="elastiCache.authentication.rotationInterval is only allowed for type Token"
// +kubebuilder:validation:XValidation:rule="self.type == 'IAM' || !has(self.roleARN)",message="elastiCache.authentication.roleARN is only allowed for type IAM"
type ElastiCacheAuthentication struct {
	// type is Token, IAM or None. Default: Token.
	// +optional
	// +kubebuilder:default=Token
	Type ElastiCacheAuthenticationType `json:"type,omitempty"`

	// rotationInterval is how often the token is rotated, between 1h and 8760h. Setting
	// the annotation flagcache.dev/rotate-token to a new value rotates it as well. A rotation
	// waits until a single revision uses the cache, and the cache is available.
	// Default: only on that annotation.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('8760h')",message="elastiCache.authentication.rotationInterval must be between 1h and 8760h"
	RotationInterval *metav1.Duration `json:"rotationInterval,omitempty"`

	// roleARN is the IAM role of the flag service's pods on EKS (IRSA). A ServiceAccount
	// with this role is created for them. The role's trust policy must allow that
	// ServiceAccount, and the role must allow elasticache:Connect. Default: none, the
	// pods get AWS credentials in another way, such as EKS Pod Identity.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^arn:[a-z-]+:iam::[0-9]{12}:role/.+$`
	RoleARN string `json:"roleARN,omitempty"`
}

// AtRestEncryption configures the key of the encryption at rest.
type AtRestEncryption struct {
	// kmsKeyID is the ID or ARN of a KMS key. Default: the AWS managed key.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	KMSKeyID string `json:"kmsKeyID,omitempty"`
}

// SnapshotsSpec configures daily snapshots.
type SnapshotsSpec struct {
	// retentionDays is the number of days that a snapshot is kept, 1 to 35. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=35
	RetentionDays int32 `json:"retentionDays,omitempty"`

	// window is the time of day in UTC at which snapshots are taken, for example
	// "03:00-05:00". Default: "03:00-04:00".
	// +optional
	// +kubebuilder:validation:MaxLength=11
	// +kubebuilder:validation:Pattern=`^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$`
	Window string `json:"window,omitempty"`
}

// AlarmsSpec configures CloudWatch alarms.
type AlarmsSpec struct {
	// cpuPercent is the threshold of CPU utilization in percent. Default: 75.
	// +optional
	// +kubebuilder:default=75
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	CPUPercent int32 `json:"cpuPercent,omitempty"`

	// memoryPercent is the threshold of memory in use in percent. Default: 80.
	// +optional
	// +kubebuilder:default=80
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MemoryPercent int32 `json:"memoryPercent,omitempty"`

	// evictionsPerFiveMinutes is the threshold of evictions within five minutes.
	// Default: 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	EvictionsPerFiveMinutes int32 `json:"evictionsPerFiveMinutes"`

	// topicARN is the SNS topic that alarms notify, in the region of the cache.
	// Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^arn:[a-z-]+:sns:`
	TopicARN string `json:"topicARN,omitempty"`
}
