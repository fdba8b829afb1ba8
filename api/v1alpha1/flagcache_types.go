// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FlagCache is a flag service with its cache: one resource becomes a Redis, a
// connection Secret, and a Deployment that answers OpenFeature SDKs by the
// OpenFeature Remote Evaluation Protocol (OFREP).
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
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 46",message="metadata.name must be at most 46 characters, so that the names of its children with their suffixes stay within 63"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must start with a letter and hold only lower-case letters, digits and '-', because Services are named after it"
type FlagCache struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata. The name is at most 46
	// characters and a DNS label, because Services are named after it.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is what is wanted. The operator never writes into it.
	// +required
	Spec FlagCacheSpec `json:"spec"`

	// status is what the operator has seen and done.
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

// FlagCacheSpec is what a user asks for. The smallest useful one names a
// ConfigMap of flags and nothing else, and gets an in-cluster Redis.
//
// +kubebuilder:validation:XValidation:rule="self.deletionPolicy == 'Delete' || self.cache.type == 'ElastiCache'",message="spec.deletionPolicy Retain and Snapshot apply to cache.type ElastiCache only: an in-cluster Redis holds no data of its own, and an external one is never deleted"
// +kubebuilder:validation:XValidation:rule="!has(self.cache.elastiCache) || !has(self.cache.elastiCache.authentication.roleARN) || !has(self.service.serviceAccountName)",message="elastiCache.authentication.roleARN makes a ServiceAccount for the pods and excludes service.serviceAccountName: annotate your own with eks.amazonaws.com/role-arn, or remove its name"
type FlagCacheSpec struct {
	// environment names the set of flags; it becomes part of the Redis key,
	// feature_flags:{environment}. FlagCaches that share one Redis need
	// different environments. Default: "default".
	// +optional
	// +kubebuilder:default=default
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Environment string `json:"environment,omitempty"`

	// cache is the Redis behind the flag service. Default: an in-cluster Redis.
	// +optional
	// +kubebuilder:default={type: InCluster}
	Cache CacheSpec `json:"cache,omitempty,omitzero"`

	// deletionPolicy says what happens to the cloud's cache when the FlagCache is
	// deleted: Delete, Retain or Snapshot. Retain and Snapshot apply to
	// cache.type ElastiCache. A later FlagCache of the same namespace and name takes
	// over a retained cache by the annotation flagcache.dev/adopt with the ID of the
	// replication group. A cache that was replaced is deleted, by Snapshot after a
	// last snapshot. Default: Delete.
	// +optional
	// +kubebuilder:default=Delete
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// flags is the source of truth of the flags.
	// +required
	Flags FlagsSpec `json:"flags"`

	// service is the flag service that answers OpenFeature SDKs.
	// +optional
	// +kubebuilder:default={}
	Service ServiceSpec `json:"service,omitempty,omitzero"`

	// probe says how the data path to the cache is watched.
	// +optional
	// +kubebuilder:default={}
	Probe ProbeSpec `json:"probe,omitempty,omitzero"`

	// canary says how a change is tried on a share of the traffic before it goes
	// to all of it. Default: 5 % for one hour; `steps: []` switches it off.
	// +optional
	// +kubebuilder:default={}
	Canary *CanarySpec `json:"canary,omitempty"`

	// budget is a limit on the estimated monthly cost of the cache. Default: none.
	// +optional
	Budget *BudgetSpec `json:"budget,omitempty"`

	// suspend stops the operator from changing anything for this FlagCache; what
	// runs goes on running, and Ready is Unknown. Deleting still works.
	// Default: false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// CacheType says what provides the Redis.
//
// +kubebuilder:validation:Enum=InCluster;ElastiCache;External
type CacheType string

// Cache types.
const (
	// CacheInCluster is one Redis in a StatefulSet, for development and small clusters.
	CacheInCluster CacheType = "InCluster"
	// CacheElastiCache is an AWS ElastiCache replication group, made through ACK.
	CacheElastiCache CacheType = "ElastiCache"
	// CacheExternal is a Redis that somebody else runs, known by a Secret.
	CacheExternal CacheType = "External"
)

// DeletionPolicy says what becomes of the cloud's cache.
//
// +kubebuilder:validation:Enum=Delete;Retain;Snapshot
type DeletionPolicy string

// Deletion policies.
const (
	// DeletionDelete deletes the cache with the FlagCache.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionRetain keeps the cache; a later FlagCache can adopt it.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionSnapshot takes a last snapshot, then deletes the cache.
	DeletionSnapshot DeletionPolicy = "Snapshot"
)

// CacheSpec is the Redis: exactly one of its types.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'ElastiCache' || !has(self.elastiCache)",message="cache.elastiCache is only for cache.type ElastiCache: remove it or change the type"
// +kubebuilder:validation:XValidation:rule="self.type != 'ElastiCache' || has(self.elastiCache)",message="cache.elastiCache is required for cache.type ElastiCache: {} takes every default"
// +kubebuilder:validation:XValidation:rule="self.type == 'InCluster' || !has(self.inCluster)",message="cache.inCluster is only for cache.type InCluster: remove it or change the type"
// +kubebuilder:validation:XValidation:rule="self.type == 'External' || !has(self.external)",message="cache.external is only for cache.type External: set cache.type to External, or remove it"
// +kubebuilder:validation:XValidation:rule="self.type != 'External' || has(self.external)",message="cache.external.secretRef.name is required for cache.type External"
type CacheSpec struct {
	// type is InCluster, ElastiCache or External. A change of the type is tried by
	// a canary like every other: the caches exist side by side until it passed.
	// Default: InCluster.
	// +optional
	// +kubebuilder:default=InCluster
	Type CacheType `json:"type,omitempty"`

	// ttl is how long the entry lives in Redis, between 10s and 24h. Default: 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="cache.ttl must be between 10s and 24h"
	TTL metav1.Duration `json:"ttl,omitempty,omitzero"`

	// elastiCache is the replication group of cache.type ElastiCache. Default: two
	// nodes of Valkey 8.0 on cache.t3.micro in two zones, in the default subnet
	// group, with TLS and a generated token.
	// +optional
	ElastiCache *ElastiCacheSpec `json:"elastiCache,omitempty"`

	// inCluster is the Redis of cache.type InCluster.
	// +optional
	InCluster *InClusterSpec `json:"inCluster,omitempty"`

	// external says where the Redis of cache.type External is.
	// +optional
	External *ExternalSpec `json:"external,omitempty"`
}

// InClusterSpec is a Redis in a StatefulSet: one replica, a generated password,
// nothing on disk.
type InClusterSpec struct {
	// image runs `redis-server FILE`. Default: docker.io/library/redis:7.2-alpine.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// resources of the container. Redis' maxmemory is three quarters of the
	// memory limit, with eviction allkeys-lru. Default: requests 50m CPU and 64Mi,
	// limit 128Mi.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`
}

// ExternalSpec names the Secret of a Redis that somebody else runs.
type ExternalSpec struct {
	// secretRef names a Secret in the same namespace. It holds `uri`
	// (redis://[user:password@]host:port or rediss://…), or the Service Binding
	// keys host, port, username, password, tls ("true" or "false") and ca (PEM).
	// It must carry the label flagcache.dev/allow=true, by which its owner lets
	// FlagCaches use it. A change of the Secret is followed.
	// +required
	SecretRef LocalReference `json:"secretRef"`
}

// LocalReference names an object in the FlagCache's namespace.
type LocalReference struct {
	// name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
}

// KeyReference names one key of an object in the FlagCache's namespace.
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

// FlagsSourceType says where the flags come from.
//
// +kubebuilder:validation:Enum=ConfigMap;Postgres
type FlagsSourceType string

// Sources of flags.
const (
	// FlagsConfigMap is a key of a ConfigMap, mounted into the flag service.
	FlagsConfigMap FlagsSourceType = "ConfigMap"
	// FlagsPostgres is a table in PostgreSQL.
	FlagsPostgres FlagsSourceType = "Postgres"
)

// FlagsSpec is the source of truth, in flagd's JSON format: exactly one of its
// types. Flags are not part of a revision: a change is served within seconds,
// without a rollout.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'ConfigMap' || has(self.configMap)",message="flags.configMap.name is required for flags.type ConfigMap"
// +kubebuilder:validation:XValidation:rule="self.type != 'Postgres' || has(self.postgres)",message="flags.postgres.secretRef is required for flags.type Postgres"
// +kubebuilder:validation:XValidation:rule="self.type == 'ConfigMap' || !has(self.configMap)",message="flags.configMap is only for flags.type ConfigMap: remove it or change the type"
// +kubebuilder:validation:XValidation:rule="self.type == 'Postgres' || !has(self.postgres)",message="flags.postgres is only for flags.type Postgres: set flags.type to Postgres, or remove it"
type FlagsSpec struct {
	// type is ConfigMap or Postgres. Default: ConfigMap.
	// +optional
	// +kubebuilder:default=ConfigMap
	Type FlagsSourceType `json:"type,omitempty"`

	// configMap holds the flags file.
	// +optional
	ConfigMap *ConfigMapKey `json:"configMap,omitempty"`

	// postgres is the database of flags.type Postgres.
	// +optional
	Postgres *PostgresSource `json:"postgres,omitempty"`
}

// ConfigMapKey names one key of a ConfigMap in the FlagCache's namespace.
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
	// secretRef names a Secret in the same namespace and its key that holds the
	// connection URI, postgres://user:password@host[:port]/database. The Secret
	// must carry the label flagcache.dev/allow=true, by which its owner lets
	// FlagCaches use it. All its keys are mounted at /etc/flagcache/postgres, so
	// the URI may say sslmode=verify-full&sslrootcert=/etc/flagcache/postgres/ca.crt.
	// A change of the Secret is followed without a rollout.
	// +required
	SecretRef KeyReference `json:"secretRef"`
}

// ProbeSpec says how the data path to the cache is watched: each probe opens a
// new connection, authenticates, and writes and reads back one key.
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

	// failureThreshold is how many probes in a row must fail before a healthy
	// cache counts as unhealthy. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	FailureThreshold int32 `json:"failureThreshold,omitempty"`

	// successThreshold is how many probes in a row must succeed before an
	// unhealthy cache counts as healthy. Default: 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
}
