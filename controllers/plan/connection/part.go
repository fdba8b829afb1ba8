// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Desired is what the pods of the desired revision connect with.
type Desired struct {
	// Connection that the spec requests; nil while it is not known.
	Connection *Connection
	// Hash of the connection; "" while it is not known.
	Hash string
	// Ports of the caches that pods use or will use.
	Ports []int32
	// IAM: pods authenticate to a cache with AWS credentials, or will.
	IAM bool
	// Apply are the Secret of the connection and, whatever the state of the cache,
	// the key that authenticates cached values and the clients' ConfigMap.
	Apply []observed.Object
	// RequeueAfter is when the key is to be planned again, 0 for never.
	RequeueAfter time.Duration
}

// Desire plans the connection of the desired revision.
func Desire(x *observed.Index, c *Connection) Desired {
	d := Desired{
		Connection: c,
		Ports:      portsOf(x, c),
		IAM:        usesIAM(x, c),
		Apply:      []observed.Object{integritySecret(x), clientConfigMap(x.FlagCache)},
	}
	d.RequeueAfter = untilKeyStep(x)
	if c != nil {
		d.Hash = c.Hash(x.FlagCache.UID)
		d.Apply = append(d.Apply, newSecret(x.FlagCache, observed.PrivateConnectionName(x.FlagCache, d.Hash), *c))
	}
	return d
}

// Serving is which revisions there are, for the Secret that applications bind to.
type Serving struct {
	// Stable revision, "" before the first; Target is the one that the spec requests.
	Stable, Target string
}

// Published is the Secret that applications bind to.
type Published struct {
	// InUse is the connection of the stable revision, which during a rollout may
	// differ from the desired one; nil while there is none.
	InUse *Connection
	// Apply are written; Keep exist and stay as they are.
	Apply, Keep []observed.Object
	// Ready is the condition ConnectionReady.
	Ready metav1.Condition
}

// Publish plans the Secret that applications bind to. It follows the stable
// revision: during a rollout it holds what that one uses. If the desired
// connection is not known, keepLast decides whether that of the stable revision
// stays published; waiting is what the connection waits for.
func Publish(x *observed.Index, d Desired, r Serving, keepLast bool, waiting string) Published {
	fc, name, stable := x.FlagCache, observed.ConnectionName(x.FlagCache), x.Revisions[r.Stable]
	if d.Connection != nil && (r.Stable == "" || r.Target == r.Stable || stable != nil && HashOf(stable) == d.Hash) {
		return Published{
			InUse: d.Connection,
			Apply: []observed.Object{newSecret(fc, name, *d.Connection)},
			Ready: published(x, *d.Connection),
		}
	}
	current, known := Of(x, stable)
	if d.Connection == nil && (!keepLast || !known) {
		return Published{Ready: conditions.False(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonWaitingForCache,
			"There is no connection to publish yet: %s", waiting)}
	}
	p := Published{Ready: conditions.True(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublished,
		"Secret %s holds the connection of the stable revision %s", name, r.Stable)}
	if !known {
		p.InUse, p.Keep = d.Connection, []observed.Object{newSecret(fc, name, *d.Connection)}
		return p
	}
	p.InUse = &current
	p.Apply = []observed.Object{
		newSecret(fc, name, current),
		newSecret(fc, observed.PrivateConnectionName(fc, HashOf(stable)), current),
	}
	return p
}

// published reports whether the Secret was observed to hold a connection.
func published(x *observed.Index, c Connection) metav1.Condition {
	name := observed.ConnectionName(x.FlagCache)
	if x.SecretValue(name, "uri") != c.URI() {
		return conditions.False(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublishing, "Writing Secret %s", name)
	}
	return conditions.True(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublished, "Secret %s holds the connection", name)
}
