// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// planExternal plans a Redis that somebody else runs: there is nothing to make,
// only a Secret to understand.
func planExternal(s *observed.Index) cachePart {
	part := cachePart{state: stateExternal, cost: planFreeCost(s, basisExternal)}
	name := s.FlagCache.Spec.Cache.External.SecretRef.Name
	refuse := func(reason, format string, args ...any) cachePart {
		part.provisioned = conditions.False(v1alpha1.ConditionCacheProvisioned, reason, format, args...)
		return part
	}
	if reason, message := s.ExternalSecret.Trouble(name, "the key uri, or host and port,"); reason != "" {
		return refuse(reason, "%s", message)
	}
	connection, err := connection.Parse(s.ExternalSecret.Data)
	if err != nil {
		return refuse(v1alpha1.ReasonSecretInvalid, "Secret %s: %v", name, err)
	}
	part.connection, part.nodes = &connection, 1
	part.provisioned = conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned,
		"Secret %s names the cache", name)
	return part
}
