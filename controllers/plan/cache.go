// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// cachePart is the Redis behind the flag service.
type cachePart struct {
	objects []Object
	// later are objects that are wanted but cannot be written yet.
	later []Object
	// connection is how clients reach the cache; nil while that is not known.
	connection  *Connection
	provisioned metav1.Condition
	state       string
	nodes       int32
	engine      string
	cost        costPart
}

// States of a cache, for status.cache.state.
const (
	stateProvisioning = "Provisioning"
	stateAvailable    = "Available"
	stateExternal     = "External"
)

// planCache plans the Redis of the chosen type. The API server admits no other
// types than these.
func planCache(s Snapshot) cachePart {
	if s.FlagCache.Spec.Cache.Type == v1alpha1.CacheExternal {
		return planExternal(s)
	}
	return planInCluster(s)
}
