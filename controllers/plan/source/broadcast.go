// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"slices"
	"time"

	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// Broadcast is a published document that Redis is to have, so that pods need not wait for
// their mounts.
type Broadcast struct {
	// Number and Digest of the document, and its Store.
	Number int64
	Digest string
	Store  string
	// Compressed is the document, as it was observed in the ConfigMap.
	Compressed []byte
	// Environments of the pods that read it from this Redis, sorted.
	Environments []string
	// Keys authenticate it.
	Keys connection.Keys
	// TTL of the document in Redis.
	TTL time.Duration
}

// Broadcast returns the published document for the Redis of a connection, nil if there is
// none, or no pod that would read it. A document is broadcast only after it was observed in the
// ConfigMap, so that a crash before is another reconcile. One that is about to be replaced may be
// somebody's edit, and one of an old view has a lower number than Redis has.
func (p Part) Broadcast(s *observed.Index, connectionHash string) *Broadcast {
	keys, stored := connection.StoredKeys(s)
	environments := environmentsOf(s, connectionHash)
	if !p.current.intact() || p.current.due(s) || !stored || len(environments) == 0 {
		return nil
	}
	return &Broadcast{
		Number: p.current.document.Number, Digest: p.current.document.Digest, Store: Store(s.FlagCache),
		Compressed: p.current.configMap.BinaryData[config.FlagsDocumentKey], Environments: environments,
		Keys: keys, TTL: s.FlagCache.Spec.Cache.TTL.Duration,
	}
}

// maxEnvironment is the maximum length of an environment in a spec. A Deployment may have
// been edited.
const maxEnvironment = 63

// environmentsOf returns the environments of the revisions that read published flags and use a
// connection. While a change of the environment is being evaluated there are two.
func environmentsOf(s *observed.Index, connectionHash string) []string {
	var environments []string
	for _, d := range s.Revisions {
		pod := d.Spec.Template.Spec
		if connection.HashOf(d) != connectionHash || !mounts(pod, observed.PublishedFlagsName(s.FlagCache)) || !hasVariable(pod, EnvVar(s.FlagCache)) {
			continue
		}
		for _, container := range pod.Containers {
			for _, variable := range container.Env {
				if variable.Name == config.EnvEnvironment && len(variable.Value) <= maxEnvironment {
					environments = append(environments, variable.Value)
				}
			}
		}
	}
	slices.Sort(environments)
	return slices.Compact(environments)
}
