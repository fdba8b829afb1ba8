// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/secret"
)

// Object is any Kubernetes object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Snapshot is everything that a plan depends on.
type Snapshot struct {
	// Now is the time of the observation.
	Now time.Time
	// FlagCache is the resource as it was read.
	FlagCache *v1alpha1.FlagCache
	// Operator is what the operator knows about itself.
	Operator Operator
	// Violations are what the spec requests and the administrator's policy does not
	// permit.
	Violations []policy.Violation
	// SpendingLimits are those of the policy, and Neighbors the other FlagCaches of the
	// namespace that have or request a cache in AWS, if there is a limit for all of them.
	// MoreNeighbors: the namespace has more FlagCaches than policy.MaxNeighbors beside it.
	SpendingLimits policy.SpendingLimits
	Neighbors      []Neighbor
	MoreNeighbors  bool
	// AdoptionPermitted: the administrator's policy permits the FlagCache to adopt the
	// replication group of its annotation AnnotationAdopt, whoever's tags it has.
	AdoptionPermitted bool
	// Fresh are random values, used only where a new credential is needed.
	Fresh Fresh
	// ExternalSecret is the Secret of cache.type External.
	ExternalSecret ExternalSecret
	// DatabaseSecret is the Secret of flags.type Postgres.
	DatabaseSecret ExternalSecret
	// Flags is the flags file of flags.type ConfigMap, and Delivery how far it got.
	Flags    Flags
	Delivery Delivery
	// Broadcast is the last result of writing the published flags to Redis.
	Broadcast Broadcast
	// Probe is the last result of the data path in use, NextProbe that of a
	// connection that nothing uses yet.
	Probe, NextProbe Probe
	// ACK has the kinds of ACK that the API server serves.
	ACK map[string]bool
	// ACKLacks has the fields of ACK's specs that the served schemas lack, by kind, as
	// paths such as tags[].key.
	ACKLacks map[string][]string
	// Evidence is the last sample about the canary in progress.
	Evidence canary.Evidence
	// Pods has what keeps the pods of revisions from running, by revision.
	Pods map[string]PodFailure
	// CachePods is what keeps the pod of an in-cluster cache from running.
	CachePods PodFailure
	// Autoscalers are the HorizontalPodAutoscalers of others that scale the Deployments of
	// revisions, by revision.
	Autoscalers map[string]string
	// LoadTests are the states of the pods of load tests, by the UID of the Job.
	LoadTests map[types.UID]LoadTest
	// Routes are the HTTPRoutes of RoutesToRead, by name.
	Routes map[string]Route
	// Children are the objects with the FlagCache's name label, or with a name that
	// a child of it needs. Index.Owned are those that the FlagCache controls.
	Children []Object
}

// Neighbor is another FlagCache of the namespace, with its replication groups.
type Neighbor struct {
	FlagCache *v1alpha1.FlagCache
	Groups    []Object
}

// Operator is what the operator knows about itself.
type Operator struct {
	// Namespace that the operator's pods run in.
	Namespace string
	// ClusterID identifies the cluster among those that may share an AWS account, such as the
	// UID of namespace kube-system; "" if it is unknown.
	ClusterID string
	// FlagServiceImage is the default image of the flag service.
	FlagServiceImage string
	// ElastiCacheCA is the CA bundle, in PEM, for the certificates of ElastiCache's
	// nodes; "" means the system's.
	ElastiCacheCA string
	// KeyPeriod is the time between two steps of the rotation of the keys that authenticate
	// cached values, 0 for none.
	KeyPeriod time.Duration
	// Prometheus is the address of the server that every FlagCache may query, "" for none.
	Prometheus string
}

// Fresh are random values.
type Fresh struct {
	// Password for a new in-cluster Redis, and ProbePassword for its user of the probe.
	Password, ProbePassword secret.String
	// IntegrityKey for authenticating cached values.
	IntegrityKey secret.String
	// Token for a new ElastiCache group: 64 characters that AWS takes.
	Token secret.String
}

// Presence is the result of reading an object that may be absent.
type Presence int

// Results of reading an object. An object that cannot be read is an error of the
// observation, which then has no Snapshot.
const (
	// Absent: it does not exist.
	Absent Presence = iota
	// NotPermitted: it exists, but its owner does not allow FlagCaches to use it.
	NotPermitted
	// Owned: it exists, but it is a child of a FlagCache.
	Owned
	// TooLarge: it exists, and has more data than is read.
	TooLarge
	// Present: it was read.
	Present
)

// MaxSecretSize is the maximum size of the data of a Secret that is read, in bytes.
const MaxSecretSize = 256 << 10

// ExternalSecret is a Secret that the spec refers to and the operator does not own.
type ExternalSecret struct {
	Presence Presence
	// Data of the Secret if it is Present.
	Data map[string][]byte
	// Owner is the name of the FlagCache whose child it is if it is Owned.
	Owner string
}

// FlagsState is the result of reading the flags file.
type FlagsState int

// Results of reading the flags file.
const (
	// FlagsNoConfigMap: the ConfigMap does not exist.
	FlagsNoConfigMap FlagsState = iota
	// FlagsNoKey: the ConfigMap lacks the key.
	FlagsNoKey
	// FlagsUnparseable: the whole file is invalid.
	FlagsUnparseable
	// FlagsLoaded: the file is usable, perhaps with some flags rejected.
	FlagsLoaded
)

// Flags is the flags file as the flag service reads it.
type Flags struct {
	State FlagsState
	// Error is why the file is unparseable, with line and column.
	Error string
	// Problems are the rejected flags, one message each.
	Problems []string
	// Digest is the SHA-256 of the file in hexadecimal, as pods report it.
	Digest string
}

// Delivery is how far a document of flags got, by what pods report.
type Delivery struct {
	// Of is the digest of the document, "" before the first result.
	Of string
	// Serving is the number of ready pods that serve it, of those that answered, Asked.
	Serving, Asked int32
	// Behind are ready pods that serve another one, by name. There are More of them
	// than are named.
	Behind []string
	More   int
	// Since is when the first of them was found.
	Since time.Time
	// Incomplete: not every pod could be asked.
	Incomplete bool
	// Known: pods were asked. Foreign: one of them reports that Redis has the document of
	// another store.
	Known, Foreign bool
}

// Broadcast is the result of writing published flags to Redis.
type Broadcast struct {
	// Number of the document, 0 before the first result.
	Number int64
	// Stored: Redis has it, or a newer one.
	Stored bool
	// Reason in CamelCase why it was not written.
	Reason string
}

// Health is the verdict of the probe.
type Health int

// Verdicts of the probe.
const (
	// HealthUnknown: no verdict yet.
	HealthUnknown Health = iota
	// Healthy: the data path works.
	Healthy
	// Unhealthy: the data path does not work.
	Unhealthy
)

// Probe is the last result about a data path.
type Probe struct {
	Health Health
	// Of is the ID of the probed target.
	Of string
	// Reason and Message describe the result; both are stable from probe to probe.
	Reason, Message string
	// Latency, Role and ReplicationLag are copied to the status.
	Latency, Role, ReplicationLag string
	// Load is the sustained memory and CPU use of the cache.
	Load Load
	// At is when the last probe ended, zero before the first, and Failing whether it
	// failed; Health changes after several results only.
	At      time.Time
	Failing bool
}

// Load is the sustained memory and CPU use of a cache.
type Load int

// Kinds of load.
const (
	// LoadUnknown: it was not observed for long enough, or is not reported.
	LoadUnknown Load = iota
	// LoadNormal: none of the others.
	LoadNormal
	// LoadLow: both have been low for a day.
	LoadLow
	// LoadHighMemory: memory has been almost full for an hour.
	LoadHighMemory
	// LoadHighCPU: a core has been busy for an hour.
	LoadHighCPU
)

// Problem returns why a Secret was not read, as the reason and message of a
// condition; the reason is "" if it was read. Keys are those that it needs.
func (e ExternalSecret) Problem(name, keys string) (reason, message string) {
	const allow = v1alpha1.LabelAllow + "=" + v1alpha1.AllowTrue
	switch e.Presence {
	case Absent:
		return v1alpha1.ReasonSecretNotFound, fmt.Sprintf("Secret %s does not exist: create it with %s and the label %s", name, keys, allow)
	case NotPermitted:
		return v1alpha1.ReasonSecretNotPermitted, fmt.Sprintf(
			"Secret %s lacks the label %s, by which its owner lets FlagCaches use it: kubectl label secret %s %s", name, allow, name, allow)
	case TooLarge:
		return v1alpha1.ReasonSecretInvalid, fmt.Sprintf(
			"Secret %s has more than %d KiB of data, which is not read: create another one that has only %s and the label %s", name, MaxSecretSize>>10, keys, allow)
	case Owned:
		return v1alpha1.ReasonSecretNotPermitted, fmt.Sprintf(
			"Secret %s belongs to FlagCache %s, whose connection nobody else may use: create another Secret with %s and the label %s", name, e.Owner, keys, allow)
	default:
		return "", ""
	}
}
