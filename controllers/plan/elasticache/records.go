// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// records are what the annotations of a cache's objects hold, so that no decision
// depends on memory. Their JSON is a persisted format.
type records struct {
	change   change
	failures failures
	token    tokenRecord
}

// change is what is on record about the last change of one of ACK's objects, in its
// annotation flagcache.dev/change.
type change struct {
	// At is when the operator made it.
	At time.Time `json:"at,omitzero"`
	// SyncedBefore is when ACK had synced the group last by then, by ACK's clock.
	SyncedBefore time.Time `json:"looked,omitzero"`
	// Class of what was changed; a change that AWS refuses can be amended.
	Class string `json:"class,omitempty"`
	// Attempt is the number in the description, which counts the changes that were made
	// for ACK to call AWS.
	Attempt int `json:"attempt,omitempty"`
	// Request identifies the reconcile that the user had requested by then.
	Request string `json:"request,omitempty"`
	// Woken: the spec did not change, so what ACK reported before is still about it.
	Woken bool `json:"woken,omitempty"`
}

// failures counts the groups that AWS failed to create, in an annotation of the
// cache's Secret.
type failures struct {
	Count int `json:"count,omitempty"`
	// At is when the last one was observed, UID which one it was.
	At  time.Time `json:"at,omitzero"`
	UID string    `json:"uid,omitempty"`
	// For is the hash of what was requested: another spec, or a requested reconcile,
	// starts a new count.
	For string `json:"for,omitempty"`
	// Event is what AWS reported last about it.
	Event string `json:"event,omitempty"`
}

// tokenRecord is how old a token is, in an annotation of the cache's Secret.
type tokenRecord struct {
	// MadeAt is when the token was generated.
	MadeAt time.Time `json:"madeAt,omitzero"`
	// Request is the value of the annotation that requested it, "" for none.
	Request string `json:"request,omitempty"`
}

// decodeRecords reads the records of a cache. What is not on record is zero; what
// cannot be decoded is an error, never taken for absent: the group would then be
// changed twice, created without end, or its token be forgotten.
func decodeRecords(o Observed) (records, error) {
	var r records
	if o.Group != nil {
		if err := decode(o.Group, "ReplicationGroup", v1alpha1.AnnotationChange, &r.change); err != nil {
			return records{}, err
		}
	}
	if o.Secret != nil {
		if err := decode(o.Secret, "Secret", v1alpha1.AnnotationFailures, &r.failures); err != nil {
			return records{}, err
		}
		if err := decode(o.Secret, "Secret", v1alpha1.AnnotationToken, &r.token); err != nil {
			return records{}, err
		}
	}
	return r, nil
}

// decode reads an annotation that is an object in JSON.
func decode(o metav1.Object, kind, annotation string, into any) error {
	text, ok := o.GetAnnotations()[annotation]
	if !ok {
		return nil
	}
	err := json.Unmarshal([]byte(text), into)
	if err == nil && !strings.HasPrefix(strings.TrimSpace(text), "{") {
		err = fmt.Errorf("it is not a JSON object")
	}
	if err != nil {
		return fmt.Errorf("annotation %s of %s %s is not a valid record: %w", annotation, kind, o.GetName(), err)
	}
	return nil
}

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
	if group == nil || ack.GroupState(group) != ack.GroupCreateFailed || f.UID == string(group.UID) {
		return f
	}
	return failures{Count: f.Count + 1, At: toSecond(now), UID: string(group.UID), For: request, Event: lastEvent(group)}
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
