// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"cmp"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

// integritySecret holds the keys that authenticate cached values and pod templates. They
// are neither in Redis nor in the connection Secret, so write access to Redis is not enough
// to forge flags.
func integritySecret(x *observed.Index) *corev1.Secret {
	name := observed.IntegrityName(x.FlagCache)
	keys := currentKeys(x)
	if x.Operator.KeyPeriod > 0 {
		keys = keys.step(x)
	}
	holder := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: observed.ChildMeta(x.FlagCache, name, v1alpha1.ComponentService),
		Type:       corev1.SecretTypeOpaque,
		Data:       keys.data(),
	}
	if !keys.since.IsZero() {
		holder.Annotations = map[string]string{v1alpha1.AnnotationKeyStep: keys.since.UTC().Format(time.RFC3339)}
	}
	return holder
}

// integrityKeys are the keys of cached values, of which pods seal with the current one and
// accept all. A rotation has two steps, a period apart:
//
//	current, previous ──▶ current, next ──▶ next as the current one, current as the previous
//
// so that all pods know a key long before the first one seals with it, and accept it long
// after the last one did, however late the kubelets update their files.
type integrityKeys struct {
	current, next, previous secret.String
	// seal is the key of pod templates, which are sealed for years: it stays.
	seal secret.String
	// since is when the last step was, zero if that is unknown.
	since time.Time
}

// Names of the keys in the Secret.
const (
	nextKey     = config.IntegrityKey + config.IntegrityNextSuffix
	previousKey = config.IntegrityKey + config.IntegrityPreviousSuffix
)

// Keys authenticate documents in Redis: they are sealed with Seal, and opened with each of them.
type Keys struct {
	Seal     secret.String
	Accepted []secret.String
}

// StoredKeys returns the keys that the Secret was observed to have; false if it has none.
func StoredKeys(x *observed.Index) (Keys, bool) {
	name := observed.IntegrityName(x.FlagCache)
	keys := Keys{Seal: x.SecretValue(name, config.IntegrityKey)}
	for _, accepted := range []string{nextKey, previousKey} {
		if key := x.SecretValue(name, accepted); !key.IsEmpty() {
			keys.Accepted = append(keys.Accepted, key)
		}
	}
	return keys, !keys.Seal.IsEmpty()
}

// currentKeys are those that the Secret was observed to have, with a new one where it has
// none. Before keys were rotated, pod templates were sealed with the same key.
func currentKeys(x *observed.Index) integrityKeys {
	name := observed.IntegrityName(x.FlagCache)
	k := integrityKeys{
		current:  x.SecretValue(name, config.IntegrityKey),
		next:     x.SecretValue(name, nextKey),
		previous: x.SecretValue(name, previousKey),
		seal:     x.SecretValue(name, observed.SealKey),
	}
	if k.current.IsEmpty() {
		k = integrityKeys{current: x.Fresh.IntegrityKey, seal: k.seal}
	}
	k.seal = cmp.Or(k.seal, k.current)
	if holder, ok := observed.Get[*corev1.Secret](x, name); ok {
		// A time that cannot be parsed is unknown.
		k.since, _ = time.Parse(time.RFC3339, holder.Annotations[v1alpha1.AnnotationKeyStep])
	}
	return k
}

// step takes the next step of the rotation if it is due. A time that is unknown, or in the
// future after a change of the clock, begins now: steps may be late, but not early.
func (k integrityKeys) step(x *observed.Index) integrityKeys {
	switch {
	case k.since.IsZero() || k.since.After(x.Now):
	case x.Now.Before(k.due(x)):
		return k
	case !k.next.IsEmpty():
		k.current, k.next, k.previous = k.next, secret.String{}, k.current
	default:
		k.next, k.previous = x.Fresh.IntegrityKey, secret.String{}
	}
	k.since = x.Now
	return k
}

// due is when the next step is: after the period and up to an eighth of it, which differs
// between FlagCaches, so that not all of them are rotated at once.
func (k integrityKeys) due(x *observed.Index) time.Time {
	h := fnv.New32a()
	h.Write([]byte(x.FlagCache.UID))
	period := x.Operator.KeyPeriod
	return k.since.Add(period + time.Duration(h.Sum32()%1000)*(period/8000))
}

// untilKeyStep is when the keys are to be planned again, 0 for never.
func untilKeyStep(x *observed.Index) time.Duration {
	if x.Operator.KeyPeriod == 0 {
		return 0
	}
	return currentKeys(x).step(x).due(x).Sub(x.Now)
}

func (k integrityKeys) data() map[string][]byte {
	data := map[string][]byte{}
	for name, value := range map[string]secret.String{config.IntegrityKey: k.current, nextKey: k.next, previousKey: k.previous, observed.SealKey: k.seal} {
		if !value.IsEmpty() {
			data[name] = []byte(value.Reveal())
		}
	}
	return data
}
