// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/source"
)

// request is what the spec requests, whatever the connection to the cache turns out
// to be.
type request struct {
	// workload is what pods need to use the cache.
	workload cache.Workload
	// intent identifies the request; "" where the connection is not deleted with a
	// rejected revision. A revision that brought its own cache has another name each
	// time, because the cache is deleted with it and the next one has another token. By
	// its intent it is recognized as rejected all the same.
	intent string
	// rejected is the record of a revision that was rejected and had the intent, nil
	// where there is none.
	rejected *canary.Record
	// unreadable is a revision whose record cannot be decoded, so that it may have been
	// rejected with the intent; "" where intents do not matter or all records can be
	// decoded.
	unreadable string
}

func readRequest(x *observed.Index, history history) request {
	r := request{workload: caches.Of(x.FlagCache).Workload(x.FlagCache)}
	if r.workload.Spec == "" {
		return r
	}
	var unpublished string
	r.intent, unpublished = intents(x, r.workload)
	for _, record := range history.newest() {
		retry := x.FlagCache.Annotations[v1alpha1.AnnotationRetry] == record.Revision && !record.Retried
		if record.Rejected() && (record.Intent == r.intent || record.Intent == unpublished) && !retry {
			r.rejected = &record
			break
		}
	}
	if unreadable := history.unreadableExcept(x.Stable); len(unreadable) > 0 {
		r.unreadable = unreadable[0]
	}
	return r
}

// intents returns the intent, and the one that operators recorded for the same request before
// they published flags.
func intents(x *observed.Index, workload cache.Workload) (intent, unpublished string) {
	pod := revision.PodTemplate(x, workload, "")
	of := func(pod corev1.PodTemplateSpec) string {
		return observed.Fingerprint(x.FlagCache.UID, observed.ToJSON(pod), workload.Spec)
	}
	return of(pod), of(source.Unpublished(x.FlagCache, pod))
}
