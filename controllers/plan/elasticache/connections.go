// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// Provider is that of connections to ElastiCache.
const Provider = "elasticache"

// connections are how clients reach the cache, and the connection that is to be
// probed before anybody uses it. A connection is used from the first probe on that
// succeeded with exactly its bytes; until then, and whenever AWS reports less than
// before, the last good one remains.
func (c planned) connections() (used, probe *connection.Connection) {
	current, ok := c.connection()
	if !ok {
		return c.seen.lastGood(), nil
	}
	next := c.probed(current)
	recorded := c.recorded(current)
	verified := recorded || c.x.NextProbe.Health == observed.Healthy && c.x.NextProbe.Of == next.Hash(c.fc.UID) || c.reported(current)
	switch {
	case recorded:
		return &current, nil
	case verified: // if it cannot be recorded now, the answer must still be known next time
		return &current, &next
	default:
		return c.seen.lastGood(), &next
	}
}

// connection is what AWS reports, with the token on record.
func (c planned) connection() (connection.Connection, bool) {
	g := c.seen.Group
	if g == nil || g.DeletionTimestamp != nil || !c.seen.usable() || c.token.IsEmpty() {
		return connection.Connection{}, false
	}
	endpoint := ack.PrimaryEndpoint(g)
	current := connection.Connection{
		Provider: Provider,
		Host:     ack.Value(endpoint.Address),
		Port:     int(ack.Value(endpoint.Port)),
		TLS:      c.spec.TransitEncryption == v1alpha1.TransitEncryptionRequired,
	}
	if current.TLS {
		current.CA = c.x.Operator.ElastiCacheCA
	}
	switch {
	case c.usesToken():
		current.Password = c.token
	case c.usesIAM():
		current.Username, current.IAMCache, current.IAMRegion = c.serviceUser(), c.aws, regionFor(c.x, c.desired, g)
	}
	return current, true
}

// recorded reports whether a probe succeeded with exactly these bytes: that is on
// record in the connection's own Secret, which is not written before.
func (c planned) recorded(current connection.Connection) bool {
	_, ok := observed.Get[*corev1.Secret](c.x, observed.PrivateConnectionName(c.fc, current.Hash(c.fc.UID)))
	return ok
}

// reported reports whether the status says that a probe of a connection has succeeded. While
// nothing is applied that is recorded nowhere else, so it stands after a restart of the
// operator until the next result. Before anything is applied, the connection is probed again.
func (c planned) reported(current connection.Connection) bool {
	st := c.fc.Status
	return c.x.Held && c.x.NextProbe.Of == "" && st.Cache != nil && st.Cache.ReplicationGroupID == c.aws && st.Cache.Endpoint == current.Endpoint() &&
		meta.IsStatusConditionTrue(st.Conditions, v1alpha1.ConditionCacheProvisioned)
}

// probed is a connection to the cache as the operator's probe uses it.
func (c planned) probed(current connection.Connection) connection.Connection {
	if current.IAMCache == "" {
		return current
	}
	return asProbe(c.fc, current, c.token)
}

// ProbeConnection implements cache.Planner. Pods that log in by IAM do so with AWS
// credentials that the operator lacks, so it has a user of its own, with access to
// the probe's key and to the documents of the flags.
func (Planner) ProbeConnection(x *observed.Index, c connection.Connection) connection.Connection {
	if c.IAMCache == "" {
		return c
	}
	for _, id := range x.CacheIDs() {
		if n := namesOf(x, id); n.aws == c.IAMCache {
			return asProbe(x.FlagCache, c, x.SecretValue(n.secret(), TokenKey))
		}
	}
	return asProbe(x.FlagCache, c, secret.String{})
}

// asProbe replaces the pods' user with the probe's.
func asProbe(fc *v1alpha1.FlagCache, c connection.Connection, password secret.String) connection.Connection {
	c.Username, c.Password = ProbeUser(fc, password), password
	c.IAMCache, c.IAMRegion = "", ""
	return c
}
