// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

const (
	// maxFailures is how often the creation of a group is tried.
	maxFailures = 5
	// firstPause is how long to wait before the second attempt; the pause doubles with
	// each further one.
	firstPause = time.Minute
)

// request identifies what is requested of AWS.
func (d desired) request() string {
	return observed.Fingerprint(d.fc.UID, observed.ToJSON(d.spec), d.fc.Annotations[v1alpha1.AnnotationReconcileAt])
}

// of are the failures on record about a request.
func (f failures) of(request string) failures {
	if f.For != request {
		return failures{}
	}
	return f
}

// next counts a group that failed, before it is deleted.
func (f failures) next(group *ack.ReplicationGroup, request string, now time.Time) failures {
	f = f.of(request)
	if group == nil || group.Status.State != ack.GroupCreateFailed || f.UID == string(group.UID) {
		return f
	}
	return failures{Count: f.Count + 1, At: toSecond(now), UID: string(group.UID), For: request}
}

// pause is how much longer to wait before the group is created again.
func (f failures) pause(since func(time.Time) time.Duration) time.Duration {
	if f.Count == 0 {
		return 0
	}
	return max(firstPause<<(f.Count-1)-since(f.At), 0)
}

// exhausted: the group is not created again.
func (f failures) exhausted() bool { return f.Count >= maxFailures }
