// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Outcome is what became of a revision.
type Outcome string

// Outcomes. A revision without one is new, or being tried.
const (
	// Promoted: the revision was seen to serve.
	Promoted Outcome = "Promoted"
	// RolledBack: the revision was rejected. It is not tried again before the spec
	// asked for another one, or a person says so.
	RolledBack Outcome = "RolledBack"
	// Superseded: the spec asked for another revision before the trial's end.
	Superseded Outcome = "Superseded"
)

// Reasons of a rollback, besides those of Kubernetes for pods that do not run.
const (
	// ReasonBreach: a limit was refuted.
	ReasonBreach = "Breach"
	// ReasonAborted: a person asked for it.
	ReasonAborted = "Aborted"
	// ReasonInconclusive: a step's deadline passed, and onInconclusive is Rollback.
	ReasonInconclusive = "Inconclusive"
	// ReasonLoadTestFailed: the load test failed, or came to no end.
	ReasonLoadTestFailed = "LoadTestFailed"
	// ReasonUnavailable: pods that were available stopped being so.
	ReasonUnavailable = "Unavailable"
)

// RollbackReasons are the reasons of a rollback that are decided here.
func RollbackReasons() []string {
	return []string{
		ReasonBreach, ReasonAborted, ReasonInconclusive, ReasonLoadTestFailed, ReasonUnavailable,
		v1alpha1.ReasonProgressDeadlineExceeded,
	}
}

// Record is what is known of a revision. It is kept as an annotation of the
// revision's ControllerRevision, so that no decision comes from memory: a crash
// between any two writes loses nothing but time.
type Record struct {
	Revision string  `json:"revision"`
	Outcome  Outcome `json:"outcome,omitempty"`
	// Reason and Message say why, in the words of a condition.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// StartedAt is when the revision was first seen, FinishedAt when its outcome
	// was known.
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	// Lifted ends a rejection: the spec asked for another revision since.
	Lifted bool `json:"lifted,omitempty"`
	// Passed says that the revision served before, so that it needs no canary.
	Passed bool `json:"passed,omitempty"`
	// Retried says that this trial is what the annotation for a retry asked for.
	Retried bool `json:"retried,omitempty"`
	// Intent is what the spec asked for, whatever the connection turned out to be.
	// It is kept where the connection may go with a rejected revision.
	Intent string `json:"intent,omitempty"`
	// Trial is the canary, as far as it got.
	Trial *Trial `json:"trial,omitempty"`
}

// rejected says that the revision must not be tried.
func (r Record) rejected() bool { return r.Outcome == RolledBack && !r.Lifted }

// finish gives the record its outcome, once.
func (r *Record) finish(now time.Time, outcome Outcome, reason, format string, args ...any) {
	r.Outcome, r.Reason, r.Message, r.FinishedAt = outcome, reason, fmt.Sprintf(format, args...), now.UTC().Truncate(time.Second)
}

// promote records that the revision was seen to serve. What it was judged by is
// kept, for whoever asks why; how far its counters were read is not.
func (r *Record) promote(now time.Time) {
	r.finish(now, Promoted, "Promoted", "the Service selects the revision")
	r.Passed = true
	if r.Trial != nil {
		r.Trial = r.Trial.clone()
		r.Trial.Streams = nil
	}
}

// again is the record of another trial. How far counters were read is kept: they
// go on where they were.
func (r Record) again(now time.Time, retried bool) Record {
	next := Record{Revision: r.Revision, StartedAt: now.UTC().Truncate(time.Second), Passed: r.Passed, Retried: retried}
	if r.Trial != nil && !r.Passed {
		next.Trial = &Trial{Origin: r.Trial.Origin, Streams: r.Trial.Streams}
	}
	return next
}

// mostRecords is how many revisions a FlagCache's history has.
const mostRecords = 10

// history are the records of a FlagCache's revisions.
type history struct {
	records map[string]Record
	// observed are the ControllerRevisions that hold them.
	observed map[string]*appsv1.ControllerRevision
}

// readHistory collects the records. One that cannot be read, because somebody
// wrote into it, counts as none: its revision is tried anew.
func readHistory(s *observed.Index) history {
	h := history{records: map[string]Record{}, observed: map[string]*appsv1.ControllerRevision{}}
	for _, kept := range observed.All[*appsv1.ControllerRevision](s) {
		if kept.DeletionTimestamp != nil {
			continue
		}
		revision := kept.Labels[v1alpha1.LabelRevision]
		h.observed[revision] = kept
		var r Record
		if json.Unmarshal([]byte(kept.Annotations[v1alpha1.AnnotationRecord]), &r) == nil && r.Revision == revision {
			h.records[revision] = r
		}
	}
	return h
}

// of returns a revision's record, a new one if there is none.
func (h history) of(revision string, now time.Time) Record {
	if r, ok := h.records[revision]; ok {
		return r
	}
	return Record{Revision: revision, StartedAt: now.UTC().Truncate(time.Second)}
}

// newest are the revisions by the time at which they began, newest first. Of
// two that began in the same second the name decides, so that the order is the
// same at each look.
func (h history) newest() []Record {
	var all []Record
	for _, r := range h.records {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int {
		if c := b.StartedAt.Compare(a.StartedAt); c != 0 {
			return c
		}
		return strings.Compare(a.Revision, b.Revision)
	})
	return all
}

// lastPromoted is the revision other than the stable one that served last.
func (h history) lastPromoted(stable string) (last Record, ok bool) {
	for _, r := range h.records {
		if r.Revision != stable && r.Outcome == Promoted && r.FinishedAt.After(last.FinishedAt) {
			last, ok = r, true
		}
	}
	return last, ok
}

// objects are the ControllerRevisions as they should be: at most ten, and those
// in use among them in any case.
func (h history) objects(fc *v1alpha1.FlagCache, inUse []string) []observed.Object {
	var objects []observed.Object
	others := mostRecords - len(inUse)
	for _, r := range h.newest() {
		if !slices.Contains(inUse, r.Revision) {
			if others--; others < 0 {
				continue
			}
		}
		objects = append(objects, controllerRevision(fc, r, h.observed[r.Revision]))
	}
	return objects
}

// controllerRevision holds a record. Its data cannot change
// (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/),
// so it says which revision this is and the annotation says the rest. The pod
// template itself is in the revision's Deployment.
func controllerRevision(fc *v1alpha1.FlagCache, r Record, existing *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	text, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("a record made of plain data does not marshal: %v", err))
	}
	meta := observed.ChildMeta(fc, observed.RevisionName(fc, r.Revision), v1alpha1.ComponentService)
	meta.Labels[v1alpha1.LabelRevision] = r.Revision
	meta.Annotations = map[string]string{v1alpha1.AnnotationRecord: string(text)}
	kept := &appsv1.ControllerRevision{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"},
		ObjectMeta: meta,
		Revision:   fc.Generation,
		Data:       runtime.RawExtension{Raw: []byte(`{"revision":"` + r.Revision + `"}`)},
	}
	if existing != nil {
		kept.Revision = existing.Revision
	}
	return kept
}

func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	at := metav1.NewTime(t).Rfc3339Copy()
	return &at
}
