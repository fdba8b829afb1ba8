// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// cachePart is the Redis behind the flag service.
type cachePart struct {
	objects []observed.Object
	// later are objects that are wanted but cannot be written yet.
	later []observed.Object
	// connection is how clients reach the cache; nil while that is not known.
	connection  *connection.Connection
	provisioned metav1.Condition
	state       string
	nodes       int32
	engine      string

	// What follows is ElastiCache's.

	// identity of the cache that the spec asks for.
	identity string
	group    *ack.ReplicationGroup
	// next is a connection that is to be probed before anybody uses it.
	next *connection.Connection
	// changing: the cache works, and a change of the spec is being carried out.
	changing bool
	// alarms is the condition about them, nil where the spec asks for none.
	alarms *metav1.Condition
	// again is when to look again, 0 for never.
	again time.Duration
	cost  costPart
}

// States of a cache, for status.cache.state.
const (
	stateProvisioning = "Provisioning"
	stateAvailable    = "Available"
	stateExternal     = "External"
)

// planCache plans the Redis of the chosen type.
func planCache(s *observed.Index) cachePart {
	switch s.FlagCache.Spec.Cache.Type {
	case v1alpha1.CacheExternal:
		return planExternal(s)
	case v1alpha1.CacheElastiCache:
		return planElastiCache(s)
	default:
		return planInCluster(s)
	}
}
