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

// Switch is an option that is Enabled or Disabled.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type Switch string

// Values of a Switch.
const (
	Enabled  Switch = "Enabled"
	Disabled Switch = "Disabled"
)

// ElastiCacheSpec is an ElastiCache replication group, made through ACK. What AWS
// cannot change in place (engine, subnets, VPC, KMS key, encryption in transit,
// kind of authentication, region, data tiering) is changed by a second group beside
// the first, which takes over when its canary passed.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.vpcID) && has(self.securityGroupIDs))",message="elastiCache.vpcID (a managed security group) and elastiCache.securityGroupIDs (yours) exclude each other: remove one"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.securityGroupIDs) || has(self.securityGroupIDs) || has(self.vpcID)",message="elastiCache.securityGroupIDs cannot be removed, because ACK would leave them in place: name others, such as the VPC's default one, or set vpcID for another cache with a managed one"
// +kubebuilder:validation:XValidation:rule="has(self.vpcID) == has(self.clientSecurityGroupIDs)",message="elastiCache.vpcID and elastiCache.clientSecurityGroupIDs go together"
// +kubebuilder:validation:XValidation:rule="!(has(self.subnetIDs) && has(self.subnetGroupName))",message="elastiCache.subnetIDs and elastiCache.subnetGroupName exclude each other: remove one"
// +kubebuilder:validation:XValidation:rule="self.replicas > 0 || self.multiAZ == 'Disabled'",message="elastiCache.multiAZ needs at least one replica: raise replicas or set multiAZ to Disabled"
// +kubebuilder:validation:XValidation:rule="self.transitEncryption == 'Required' || self.authentication.type == 'None'",message="elastiCache.authentication Token and IAM need elastiCache.transitEncryption Required: AWS takes no credentials over plain text"
// +kubebuilder:validation:XValidation:rule="self.engine != 'Redis' || int(self.engineVersion.split('.')[0]) <= 7",message="elastiCache.engine Redis ends at version 7.1: set engineVersion to 7.1, or engine to Valkey"
// +kubebuilder:validation:XValidation:rule="self.engine != 'Valkey' || int(self.engineVersion.split('.')[0]) >= 8 || self.engineVersion.startsWith('7.2')",message="elastiCache.engine Valkey begins at version 7.2: raise engineVersion, or set engine to Redis"
// +kubebuilder:validation:XValidation:rule="self.authentication.type != 'IAM' || int(self.engineVersion.split('.')[0]) >= 7",message="elastiCache.authentication IAM needs engineVersion 7.0 or later"
// +kubebuilder:validation:XValidation:rule="!self.nodeType.contains('gd.') || int(self.engineVersion.split('.')[0]) > 6 || self.engineVersion.startsWith('6.2')",message="elastiCache.nodeType of the family r6gd has data tiering, which needs engineVersion 6.2 or later"
// +kubebuilder:validation:XValidation:rule="self.engine != oldSelf.engine || int(self.engineVersion.split('.')[0]) > int(oldSelf.engineVersion.split('.')[0]) || (int(self.engineVersion.split('.')[0]) == int(oldSelf.engineVersion.split('.')[0]) && int(self.engineVersion.split('.')[1]) >= int(oldSelf.engineVersion.split('.')[1]))",message="elastiCache.engineVersion cannot go down: AWS upgrades an engine in place and never downgrades it"
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

	// nodeType of every node. Those of the family r6gd have data tiering, so from one
	// to any other and back is a change to another group. Default: cache.t3.micro.
	// +optional
	// +kubebuilder:default=cache.t3.micro
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^cache\.[a-z0-9-]+\.[a-z0-9]+$`
	NodeType string `json:"nodeType,omitempty"`

	// replicas is the number of read replicas, 0 to 5; with 0 there is one node
	// and no failover. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=5
	Replicas int32 `json:"replicas"`

	// multiAZ places nodes in several availability zones. Default: Enabled.
	// +optional
	// +kubebuilder:default=Enabled
	MultiAZ Switch `json:"multiAZ,omitempty"`

	// vpcID is where a security group is made and managed that lets
	// clientSecurityGroupIDs in on TCP 6379. Excludes securityGroupIDs.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^vpc-[0-9a-f]+$`
	VPCID string `json:"vpcID,omitempty"`

	// clientSecurityGroupIDs are let in by the managed security group.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	ClientSecurityGroupIDs []SecurityGroupID `json:"clientSecurityGroupIDs,omitempty"`

	// securityGroupIDs are yours and not managed. They can be exchanged for others and
	// not removed: ACK takes none away. Excludes vpcID.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=5
	SecurityGroupIDs []SecurityGroupID `json:"securityGroupIDs,omitempty"`

	// subnetIDs of a subnet group that is made and managed. Excludes subnetGroupName.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	SubnetIDs []SubnetID `json:"subnetIDs,omitempty"`

	// subnetGroupName is an existing subnet group. Excludes subnetIDs.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	SubnetGroupName string `json:"subnetGroupName,omitempty"`

	// parameters of the engine, for example maxmemory-policy: allkeys-lru.
	// +optional
	// +kubebuilder:validation:MaxProperties=20
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`

	// authentication of clients. Default: a generated token.
	// +optional
	// +kubebuilder:default={}
	Authentication ElastiCacheAuthentication `json:"authentication,omitempty,omitzero"`

	// transitEncryption is Required or Disabled; Disabled must be written out.
	// Default: Required.
	// +optional
	// +kubebuilder:default=Required
	TransitEncryption TransitEncryption `json:"transitEncryption,omitempty"`

	// atRestEncryption is always on; a key of your own can be named.
	// +optional
	AtRestEncryption *AtRestEncryption `json:"atRestEncryption,omitempty"`

	// maintenanceWindow in UTC, for example "sun:05:00-sun:07:00". Default: AWS chooses.
	// +optional
	// +kubebuilder:validation:MaxLength=19
	// +kubebuilder:validation:Pattern=`^(mon|tue|wed|thu|fri|sat|sun):[0-2][0-9]:[0-5][0-9]-(mon|tue|wed|thu|fri|sat|sun):[0-2][0-9]:[0-5][0-9]$`
	MaintenanceWindow string `json:"maintenanceWindow,omitempty"`

	// snapshots are the daily backups. To turn them on or off makes another cache,
	// which takes over by a canary. Default: none.
	// +optional
	Snapshots *SnapshotsSpec `json:"snapshots,omitempty"`

	// alarms are CloudWatch alarms on the replication group. Default: none.
	// +optional
	Alarms *AlarmsSpec `json:"alarms,omitempty"`

	// tags on every AWS resource, beside those that FlagCache sets.
	// +optional
	// +kubebuilder:validation:MaxProperties=40
	Tags map[string]TagValue `json:"tags,omitempty"`

	// region of the resources. Default: ACK's own.
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

// TransitEncryption says whether clients must use TLS.
//
// +kubebuilder:validation:Enum=Required;Disabled
type TransitEncryption string

// Values of TransitEncryption.
const (
	TransitEncryptionRequired TransitEncryption = "Required"
	TransitEncryptionDisabled TransitEncryption = "Disabled"
)

// ElastiCacheAuthenticationType says how clients prove who they are.
//
// +kubebuilder:validation:Enum=Token;IAM;None
type ElastiCacheAuthenticationType string

// Ways to authenticate.
const (
	// AuthenticationToken is a generated and rotated AUTH token.
	AuthenticationToken ElastiCacheAuthenticationType = "Token"
	// AuthenticationIAM is a short-lived token made from an IAM role.
	AuthenticationIAM ElastiCacheAuthenticationType = "IAM"
	// AuthenticationNone is none.
	AuthenticationNone ElastiCacheAuthenticationType = "None"
)

// ElastiCacheAuthentication says how clients prove who they are.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'Token' || !has(self.rotationInterval)",message="elastiCache.authentication.rotationInterval is only for type Token"
// +kubebuilder:validation:XValidation:rule="self.type == 'IAM' || !has(self.roleARN)",message="elastiCache.authentication.roleARN is only for type IAM"
type ElastiCacheAuthentication struct {
	// type is Token, IAM or None. Default: Token.
	// +optional
	// +kubebuilder:default=Token
	Type ElastiCacheAuthenticationType `json:"type,omitempty"`

	// rotationInterval is how often the token is rotated, between 1h and 8760h. The
	// annotation flagcache.dev/rotate-token, with any new value, rotates it at once.
	// Default: by the annotation only.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('8760h')",message="elastiCache.authentication.rotationInterval must be between 1h and 8760h"
	RotationInterval *metav1.Duration `json:"rotationInterval,omitempty"`

	// roleARN is the IAM role that the flag service's pods take on EKS (IRSA). A
	// ServiceAccount is made for them that carries it; the role's trust policy must
	// name that ServiceAccount, and the role must allow elasticache:Connect.
	// Default: the pods get their AWS credentials in another way, such as EKS Pod
	// Identity.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^arn:[a-z-]+:iam::[0-9]{12}:role/.+$`
	RoleARN string `json:"roleARN,omitempty"`
}

// AtRestEncryption names a key for encryption at rest.
type AtRestEncryption struct {
	// kmsKeyID is the ID or ARN of a KMS key. Default: AWS' own key.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	KMSKeyID string `json:"kmsKeyID,omitempty"`
}

// SnapshotsSpec are the daily backups.
type SnapshotsSpec struct {
	// retentionDays is how long a snapshot is kept, 1 to 35. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=35
	RetentionDays int32 `json:"retentionDays,omitempty"`

	// window in UTC, for example "03:00-05:00". Default: "03:00-04:00".
	// +optional
	// +kubebuilder:validation:MaxLength=11
	// +kubebuilder:validation:Pattern=`^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$`
	Window string `json:"window,omitempty"`
}

// AlarmsSpec are the thresholds of CloudWatch alarms.
type AlarmsSpec struct {
	// cpuPercent of the engine. Default: 75.
	// +optional
	// +kubebuilder:default=75
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	CPUPercent int32 `json:"cpuPercent,omitempty"`

	// memoryPercent in use. Default: 80.
	// +optional
	// +kubebuilder:default=80
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MemoryPercent int32 `json:"memoryPercent,omitempty"`

	// evictionsPerFiveMinutes. Default: 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	EvictionsPerFiveMinutes int32 `json:"evictionsPerFiveMinutes"`

	// topicARN of the SNS topic that is told, in the region of the cache.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^arn:[a-z-]+:sns:`
	TopicARN string `json:"topicARN,omitempty"`
}
