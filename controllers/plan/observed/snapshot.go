// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Object is any Kubernetes object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Snapshot is everything that a decision may rest on.
type Snapshot struct {
	// Now is the time of the observation.
	Now time.Time
	// FlagCache is the resource as it was read.
	FlagCache *v1alpha1.FlagCache
	// Operator is what the operator knows of itself.
	Operator Operator
	// Fresh are random values, used only where a new credential is needed.
	Fresh Fresh
	// ExternalSecret is the Secret of cache.type External.
	ExternalSecret ExternalSecret
	// DatabaseSecret is the Secret of flags.type Postgres.
	DatabaseSecret ExternalSecret
	// Flags is the flags file of flags.type ConfigMap.
	Flags Flags
	// Probe is the last answer about the data path, NextProbe that about the
	// connection that is to come.
	Probe, NextProbe Probe
	// ACK has the names of ACK's kinds that the API server knows.
	ACK map[string]bool
	// Evidence is the last sample about the canary under way.
	Evidence canary.Evidence
	// Pods are what is wrong with the pods of revisions that do not serve, by
	// revision.
	Pods map[string]PodTrouble
	// LoadTestReport is what the load tester said when it ended; whether there was
	// one, and how it ended, is in its Job among the children.
	LoadTestReport string
	// Routes are the HTTPRoutes of RoutesToRead, by name.
	Routes map[string]Route
	// Children are the objects that carry the FlagCache's name label, or a name
	// that a child of it needs; whether they are ours is for the plan to judge.
	Children []Object
}

// Operator is what the operator knows of itself.
type Operator struct {
	// Namespace that the operator's pods run in.
	Namespace string
	// FlagServiceImage is the default image of the flag service.
	FlagServiceImage string
	// ElastiCacheCA holds the authorities, in PEM, that sign the certificates of
	// ElastiCache's nodes; "" means the system's.
	ElastiCacheCA string
}

// Fresh are random values.
type Fresh struct {
	// Password for a new in-cluster Redis.
	Password string
	// IntegrityKey for authenticating cached values.
	IntegrityKey string
	// Token for a new ElastiCache group: 64 characters that AWS takes.
	Token string
}

// Presence is what looking for an object found.
type Presence int

// What looking for an object finds. That it could not be read is an error of
// the observation, which then has no Snapshot.
const (
	// Absent: there is none.
	Absent Presence = iota
	// NotPermitted: there is one, but its owner has not let FlagCaches use it.
	NotPermitted
	// Present: it was read.
	Present
)

// ExternalSecret is a Secret of somebody else's that the spec refers to.
type ExternalSecret struct {
	Presence Presence
	// Data of the Secret when it is There.
	Data map[string][]byte
}

// FlagsState is what reading the flags file found.
type FlagsState int

// What reading the flags file finds.
const (
	// FlagsNoConfigMap: the ConfigMap does not exist.
	FlagsNoConfigMap FlagsState = iota
	// FlagsNoKey: the ConfigMap lacks the key.
	FlagsNoKey
	// FlagsUnparseable: the file as a whole cannot be used.
	FlagsUnparseable
	// FlagsLoaded: the file can be used, perhaps with some flags rejected.
	FlagsLoaded
)

// Flags is the flags file as the flag service will see it.
type Flags struct {
	State FlagsState
	// Error says, with line and column, why an unparseable file is one.
	Error string
	// Problems are the rejected flags, one sentence each.
	Problems []string
}

// Health is what the probe says.
type Health int

// What the probe says.
const (
	// HealthUnknown: no verdict yet.
	HealthUnknown Health = iota
	// Healthy: the data path works.
	Healthy
	// Unhealthy: the data path does not work.
	Unhealthy
)

// Probe is the last answer about the data path.
type Probe struct {
	Health Health
	// Of is the ID of the target that this is about.
	Of string
	// Reason and Message say what was found; both are stable from probe to probe.
	Reason, Message string
	// Latency, Role and ReplicationLag go to the status as they are.
	Latency, Role, ReplicationLag string
	// Load is how much of its memory and CPU the cache uses for long.
	Load Load
	// At is when the last probe of all ended, zero while there was none, and Failing
	// that it failed; Health takes several to change.
	At      time.Time
	Failing bool
}

// Load is how much of its memory and CPU a cache uses for long.
type Load int

// What is said of a load.
const (
	// LoadUnknown: it has not been watched for long enough, or does not say.
	LoadUnknown Load = iota
	// LoadNormal: none of the others.
	LoadNormal
	// LoadLow: it has used little of either for a day.
	LoadLow
	// LoadHighMemory: its memory has been almost full for an hour.
	LoadHighMemory
	// LoadHighCPU: it has kept a core busy for an hour.
	LoadHighCPU
)

// PodTrouble is what keeps pods from running.
type PodTrouble struct {
	// Reason is Kubernetes' own, such as CrashLoopBackOff; "" if nothing is wrong.
	Reason string
	// Message says more, for people.
	Message string
}

// Get returns the child of type T with the given name that is ours.
func Get[T Object](s Snapshot, name string) (T, bool) {
	for _, child := range s.Children {
		if typed, ok := child.(T); ok && typed.GetName() == name && s.Owns(typed) {
			return typed, true
		}
	}
	var none T
	return none, false
}

// Owns tells whether the FlagCache, and not a predecessor of the same name,
// controls the object.
func (s Snapshot) Owns(o Object) bool {
	return metav1.IsControlledBy(o, s.FlagCache)
}

// TakenNames returns the wanted objects whose names belong to somebody else.
func (s Snapshot) TakenNames(wanted []Object) []Object {
	var taken []Object
	for _, w := range wanted {
		for _, child := range s.Children {
			if Same(w, child) && !s.Owns(child) {
				taken = append(taken, child)
			}
		}
	}
	return taken
}

func Same(a, b Object) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && a.GetName() == b.GetName()
}

func Contains(objects []Object, o Object) bool {
	for _, other := range objects {
		if Same(other, o) {
			return true
		}
	}
	return false
}

// SecretValue returns one value of a Secret of ours, "" where there is none.
func SecretValue(s Snapshot, name, key string) string {
	secret, ok := Get[*corev1.Secret](s, name)
	if !ok {
		return ""
	}
	return string(secret.Data[key])
}

// maxClockSkew is how far a time on record may be ahead of the clock: clocks differ, and
// are set.
const maxClockSkew = time.Minute

// Since is how long ago a time on record is. One that is further ahead was written by
// a clock that has gone back since, and counts as long ago: who waits for it would
// wait until the clock is there again.
func (s Snapshot) Since(at time.Time) time.Duration {
	if passed := s.Now.Sub(at); passed >= -maxClockSkew {
		return passed
	}
	return math.MaxInt64
}

// Trouble says why a Secret was not read, as a reason and what to do about it;
// the reason is "" when it was. Keys are those that it should have.
func (e ExternalSecret) Trouble(name, keys string) (reason, message string) {
	const allow = v1alpha1.LabelAllow + "=" + v1alpha1.AllowTrue
	switch e.Presence {
	case Absent:
		return v1alpha1.ReasonSecretNotFound, fmt.Sprintf("Secret %s does not exist: create it with %s and the label %s", name, keys, allow)
	case NotPermitted:
		return v1alpha1.ReasonSecretNotPermitted, fmt.Sprintf(
			"Secret %s lacks the label %s, by which its owner lets FlagCaches use it: kubectl label secret %s %s", name, allow, name, allow)
	default:
		return "", ""
	}
}

func KindOf(o Object) string {
	if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	name := fmt.Sprintf("%T", o)
	return name[strings.LastIndex(name, ".")+1:]
}
