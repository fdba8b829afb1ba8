// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// intent is what the spec asks for, whatever the connection to the cache turns out
// to be; "" where a connection does not go with a rejected revision. A revision that
// brought its own cache has another name each time: the cache is deleted with it,
// and the next one has another token. By the intent it is known to be rejected
// all the same.
func intent(s *observed.Index) string {
	if s.FlagCache.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return ""
	}
	return observed.Fingerprint(s.FlagCache.UID, observed.ToJSON(podTemplate(s, "")), observed.ToJSON(s.FlagCache.Spec.Cache.ElastiCache))
}

// rejectedIntent is the record of a revision that was rejected and had the intent
// of the present spec.
func rejectedIntent(s *observed.Index) (Record, bool) {
	wanted := intent(s)
	if wanted == "" {
		return Record{}, false
	}
	for _, record := range readHistory(s).newest() {
		retry := s.FlagCache.Annotations[v1alpha1.AnnotationRetry] == record.Revision && !record.Retried
		if record.rejected() && record.Intent == wanted && !retry {
			return record, true
		}
	}
	return Record{}, false
}
