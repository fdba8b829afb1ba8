// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FlagCache is a feature flag service with its cache: a Redis, a connection Secret,
// and a Deployment that serves OpenFeature SDKs through the OpenFeature Remote
// Evaluation Protocol (OFREP).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=fcache,categories=flagcaches
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Cache",type=string,JSONPath=`.status.cache.state`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revisions.stable`
// +kubebuilder:printcolumn:name="Canary",type=string,JSONPath=`.status.canary.summary`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Endpoint",type=string,priority=1,JSONPath=`.status.service.ofrepEndpoint`
// +kubebuilder:printcolumn:name="Engine",type=string,priority=1,JSONPath=`.status.cache.engineVersion`
// +kubebuilder:printcolumn:name="Image",type=string,priority=1,JSONPath=`.status.service.image`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 46",message="metadata.name must be at most 46 characters, so that names derived from it are at most 63 characters"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must start with a lower-case letter and contain only lower-case letters, digits and '-', because Services are named after it"
type FlagCache struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata. The name is at most 46
	// characters and a DNS label, because Services are named after it.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is the desired state. The operator never changes it.
	// +required
	Spec FlagCacheSpec `json:"spec"`

	// status is the observed state.
	// +optional
	Status FlagCacheStatus `json:"status,omitempty,omitzero"`
}

// FlagCacheList is a list of FlagCaches.
//
// +kubebuilder:object:root=true
type FlagCacheList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []FlagCache `json:"items"`
}

// FlagCacheSpec is the desired state of a FlagCache. Only the source of flags is
// required; the default cache is an in-cluster Redis.
//
// +kubebuilder:validation:XValidation:rule="self.deletionPolicy == 'Delete' || self.cache.type == 'ElastiCache'",message="spec.deletionPolicy Retain and Snapshot require cache.type ElastiCache: an in-cluster Redis has no data of its own, and an external one is never deleted"
// +kubebuilder:validation:XValidation:rule="!has(self.cache.elastiCache) || !has(self.cache.elastiCache.authentication.roleARN) || !has(self.service.serviceAccountName)",message="elastiCache.authentication.roleARN creates a ServiceAccount for the pods and is mutually exclusive with service.serviceAccountName: annotate that ServiceAccount with eks.amazonaws.com/role-arn instead, or remove serviceAccountName"
type FlagCacheSpec struct {
	// environment is the name of the flag set. It is part of the Redis key,
	// feature_flags:{environment}, so FlagCaches that share a Redis need different
	// environments. Default: "default".
	// +optional
	// +kubebuilder:default=default
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Environment string `json:"environment,omitempty"`

	// cache is the Redis behind the flag service. Default: an in-cluster Redis.
	// +optional
	// +kubebuilder:default={type: InCluster}
	Cache CacheSpec `json:"cache,omitempty,omitzero"`

	// deletionPolicy is what happens to the cache in AWS when the FlagCache is deleted:
	// Delete, Retain or Snapshot. Retain and Snapshot require cache.type ElastiCache.
	// To adopt a retained cache, create a FlagCache with the same namespace, name and
	// cache spec, and with the annotation flagcache.dev/adopt set to the ID of the
	// replication group. A cache that was replaced is never retained, but deleted; with
	// Snapshot, after a final snapshot. Default: Delete.
	// +optional
	// +kubebuilder:default=Delete
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// flags is the source of truth of the flags.
	// +required
	Flags FlagsSpec `json:"flags"`

	// service configures the flag service, which serves OpenFeature SDKs.
	// +optional
	// +kubebuilder:default={}
	Service ServiceSpec `json:"service,omitempty,omitzero"`

	// probe configures how the data path to the cache is probed.
	// +optional
	// +kubebuilder:default={}
	Probe ProbeSpec `json:"probe,omitempty,omitzero"`

	// canary configures how a change is evaluated on a share of the traffic before it is
	// promoted. Default: 5% for one hour; `steps: []` disables it.
	// +optional
	// +kubebuilder:default={}
	Canary *CanarySpec `json:"canary,omitempty"`

	// budget is a limit on the estimated monthly cost of the cache. Default: none.
	// +optional
	Budget *BudgetSpec `json:"budget,omitempty"`

	// suspend stops the operator from making changes for this FlagCache, other than
	// publishing changed flags. Its workloads keep running, Ready is Unknown, and it can
	// still be deleted. Default: false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// CacheType is the provider of the Redis.
//
// +kubebuilder:validation:Enum=InCluster;ElastiCache;External
type CacheType string

// Cache types.
const (
	// CacheInCluster is a single Redis in a StatefulSet, for development and small
	// clusters.
	CacheInCluster CacheType = "InCluster"
	// CacheElastiCache is an AWS ElastiCache replication group, created through ACK.
	CacheElastiCache CacheType = "ElastiCache"
	// CacheExternal is a Redis that is managed elsewhere, with its connection in a
	// Secret.
	CacheExternal CacheType = "External"
)

// DeletionPolicy is what happens to the cache in AWS when its FlagCache is deleted.
//
// +kubebuilder:validation:Enum=Delete;Retain;Snapshot
type DeletionPolicy string

// Deletion policies.
const (
	// DeletionDelete deletes the cache.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionRetain keeps the cache; another FlagCache can adopt it.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionSnapshot takes a final snapshot, then deletes the cache.
	DeletionSnapshot DeletionPolicy = "Snapshot"
)

// CacheSpec is the Redis behind the flag service: exactly one of the cache types.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'ElastiCache' || !has(self.elastiCache)",message="cache.elastiCache is only allowed for cache.type ElastiCache: remove it or change the type"
// +kubebuilder:validation:XValidation:rule="self.type != 'ElastiCache' || has(self.elastiCache)",message="cache.elastiCache is required for cache.type ElastiCache: use {} for all defaults"
// +kubebuilder:validation:XValidation:rule="self.type == 'InCluster' || !has(self.inCluster)",message="cache.inCluster is only allowed for cache.type InCluster: remove it or change the type"
// +kubebuilder:validation:XValidation:rule="self.type == 'External' || !has(self.external)",message="cache.external is only allowed for cache.type External: set cache.type to External, or remove it"
// +kubebuilder:validation:XValidation:rule="self.type != 'External' || has(self.external)",message="cache.external.secretRef.name is required for cache.type External"
type CacheSpec struct {
	// type is InCluster, ElastiCache or External. Changing it starts a canary like any
	// other change, and both caches exist until the canary has finished.
	// Default: InCluster.
	// +optional
	// +kubebuilder:default=InCluster
	Type CacheType `json:"type,omitempty"`

	// ttl is the time to live of the flags in Redis, between 10s and 24h. Default: 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="cache.ttl must be between 10s and 24h"
	TTL metav1.Duration `json:"ttl,omitempty,omitzero"`

	// elastiCache configures cache.type ElastiCache. Its defaults are two nodes of
	// Valkey 8.0 on cache.t3.micro in two availability zones, in the default subnet
	// group, with TLS and a generated token.
	// +optional
	ElastiCache *ElastiCacheSpec `json:"elastiCache,omitempty"`

	// inCluster configures cache.type InCluster.
	// +optional
	InCluster *InClusterSpec `json:"inCluster,omitempty"`

	// external configures cache.type External.
	// +optional
	External *ExternalSpec `json:"external,omitempty"`
}

// InClusterSpec is a Redis in a StatefulSet, with one replica, a generated password
// and no persistence.
type InClusterSpec struct {
	// image of the container, which must provide redis-server of version 6 or later.
	// Default: docker.io/library/redis:7.2-alpine.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// resources of the container. The maxmemory of Redis is 75% of the memory limit, if
	// there is one, with the eviction policy allkeys-lru. Default: requests of 50m CPU and 64Mi
	// memory, limit of 128Mi memory.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`
}

// ExternalSpec is the connection to a Redis that is managed elsewhere.
type ExternalSpec struct {
	// secretRef references a Secret in the same namespace. It has either the key `uri`
	// (redis://[user:password@]host[:port] or rediss://…), or the Service Binding keys
	// host, port, username, password and tls ("true" or "false"); in either case ca (PEM)
	// has the CA bundle. It must have the label flagcache.dev/allow=true, with which its
	// owner permits FlagCaches to use it. A change to the Secret is a change of the
	// connection, and starts a canary.
	// +required
	SecretRef LocalReference `json:"secretRef"`
}

// LocalReference references an object in the namespace of the FlagCache.
type LocalReference struct {
	// name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
}

// KeyReference references a key of an object in the namespace of the FlagCache.
type KeyReference struct {
	// name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`

	// key in the object's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key"`
}

// FlagsSourceType is the kind of the source of flags.
//
// +kubebuilder:validation:Enum=ConfigMap;Postgres
type FlagsSourceType string

// Flags source types.
const (
	// FlagsConfigMap is a key of a ConfigMap, which the operator publishes for the pods of
	// the flag service.
	FlagsConfigMap FlagsSourceType = "ConfigMap"
	// FlagsPostgres is a table in PostgreSQL.
	FlagsPostgres FlagsSourceType = "Postgres"
)

// FlagsSpec is the source of truth of the flags, in the JSON format of flagd: exactly
// one of the source types. Flags are not part of a revision: changes to them are
// served without a rollout, those in a database within seconds, those in a ConfigMap
// when the kubelet has updated its volume, which takes up to 90 seconds by default.
// The name and the key of the ConfigMap are not part of a revision, either.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'ConfigMap' || has(self.configMap)",message="flags.configMap.name is required for flags.type ConfigMap"
// +kubebuilder:validation:XValidation:rule="self.type != 'Postgres' || has(self.postgres)",message="flags.postgres.secretRef is required for flags.type Postgres"
// +kubebuilder:validation:XValidation:rule="self.type == 'ConfigMap' || !has(self.configMap)",message="flags.configMap is only allowed for flags.type ConfigMap: remove it or change the type"
// +kubebuilder:validation:XValidation:rule="self.type == 'Postgres' || !has(self.postgres)",message="flags.postgres is only allowed for flags.type Postgres: set flags.type to Postgres, or remove it"
type FlagsSpec struct {
	// type is ConfigMap or Postgres. Default: ConfigMap.
	// +optional
	// +kubebuilder:default=ConfigMap
	Type FlagsSourceType `json:"type,omitempty"`

	// configMap references the flags file of flags.type ConfigMap. The operator publishes
	// it for the pods in the ConfigMap NAME-published-flags, so that another name or key
	// is a change of flags, not of pods.
	// +optional
	ConfigMap *ConfigMapKey `json:"configMap,omitempty"`

	// postgres configures flags.type Postgres.
	// +optional
	Postgres *PostgresSource `json:"postgres,omitempty"`
}

// ConfigMapKey references a key of a ConfigMap in the namespace of the FlagCache.
type ConfigMapKey struct {
	// name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`

	// key of the flags file in the ConfigMap. Default: flags.json.
	// +optional
	// +kubebuilder:default=flags.json
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// PostgresSource is a PostgreSQL database with a table of flags.
type PostgresSource struct {
	// secretRef references a Secret in the same namespace and its key with the
	// connection URI, postgres://user:password@host[:port]/database?sslmode=MODE. The
	// mode is disable, require, verify-ca or verify-full; pods do not become ready
	// without it. The Secret must have the label flagcache.dev/allow=true, with which its
	// owner permits FlagCaches to use it. All its keys are mounted at
	// /etc/flagcache/postgres, so the URI can have
	// sslmode=verify-full&sslrootcert=/etc/flagcache/postgres/ca.crt. Changes to the
	// values of the Secret are picked up without a rollout.
	// +required
	SecretRef KeyReference `json:"secretRef"`
}

// ProbeSpec configures the probe of the data path to the cache. Each probe opens a new
// connection, authenticates, writes a key and reads it back.
//
// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || !has(self.interval) || duration(self.timeout) <= duration(self.interval)",message="probe.timeout must not be longer than probe.interval"
type ProbeSpec struct {
	// interval between two probes, between 1s and 10m. Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="probe.interval must be between 1s and 10m"
	Interval metav1.Duration `json:"interval,omitempty,omitzero"`

	// timeout of one probe, between 50ms and 30s. Default: 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('50ms') && duration(self) <= duration('30s')",message="probe.timeout must be between 50ms and 30s"
	Timeout metav1.Duration `json:"timeout,omitempty,omitzero"`

	// failureThreshold is the number of consecutive failures after which a healthy cache
	// is considered unhealthy. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	FailureThreshold int32 `json:"failureThreshold,omitempty"`

	// successThreshold is the number of consecutive successes after which an unhealthy
	// cache is considered healthy. Default: 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
}
