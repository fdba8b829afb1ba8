// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// maxRecords is how many revisions a FlagCache's history has.
const maxRecords = 10

// history are the records of a FlagCache's revisions, by revision.
type history struct {
	records map[string]canary.Record
	// unreadable are the revisions whose record cannot be decoded, and why. What is on
	// record about them is unknown, which is not the same as nothing: they may have been
	// rejected.
	unreadable map[string]error
	// observed are the ControllerRevisions that hold the records.
	observed map[string]*appsv1.ControllerRevision
}

// readHistory decodes the records.
func readHistory(x *observed.Index) history {
	h := history{records: map[string]canary.Record{}, unreadable: map[string]error{}, observed: map[string]*appsv1.ControllerRevision{}}
	for _, holder := range observed.All[*appsv1.ControllerRevision](x) {
		if holder.DeletionTimestamp != nil {
			continue
		}
		revision := holder.Labels[v1alpha1.LabelRevision]
		h.observed[revision] = holder
		record, err := decodeRecord(holder.Annotations[v1alpha1.AnnotationRecord], revision)
		if err != nil {
			h.unreadable[revision] = err
			continue
		}
		h.records[revision] = record
	}
	return h
}

func decodeRecord(text, revision string) (canary.Record, error) {
	record, err := canary.Decode(text)
	if err != nil {
		return canary.Record{}, err
	}
	if record.Revision != revision {
		return canary.Record{}, fmt.Errorf("the record is about another revision than the label %s", v1alpha1.LabelRevision)
	}
	return record, nil
}

// of returns a revision's record, a new one if there is none.
func (h history) of(revision string, now time.Time) canary.Record {
	if record, ok := h.records[revision]; ok {
		return record
	}
	return canary.NewRecord(revision, now)
}

// newest are the records by the time at which they began, newest first. Of two that
// began in the same second the name decides, so that the order is always the same.
func (h history) newest() []canary.Record {
	return slices.SortedFunc(maps.Values(h.records), func(a, b canary.Record) int {
		if c := b.StartedAt.Compare(a.StartedAt); c != 0 {
			return c
		}
		return strings.Compare(a.Revision, b.Revision)
	})
}

// lastPromoted is the revision other than the stable one that served last.
func (h history) lastPromoted(stable string) (last canary.Record, ok bool) {
	for _, r := range h.records {
		if r.Revision != stable && r.Outcome == canary.Promoted && r.FinishedAt.After(last.FinishedAt) {
			last, ok = r, true
		}
	}
	return last, ok
}

// unreadableExcept are the revisions with a record that cannot be decoded, other than
// the stable one: that was never rejected.
func (h history) unreadableExcept(stable string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(h.unreadable)), func(revision string) bool { return revision == stable })
}

// objects are the ControllerRevisions as they should be: at most ten, and those in use
// among them in any case. Those with a record that cannot be decoded are kept as they
// are, for a person to repair.
func (h history) objects(fc *v1alpha1.FlagCache, inUse []string) (write, keep []observed.Object) {
	others := maxRecords - len(inUse)
	for _, record := range h.newest() {
		if !slices.Contains(inUse, record.Revision) {
			if others--; others < 0 {
				continue
			}
		}
		write = append(write, controllerRevision(fc, record, h.observed[record.Revision]))
	}
	for _, revision := range slices.Sorted(maps.Keys(h.unreadable)) {
		keep = append(keep, h.observed[revision])
	}
	return write, keep
}

// controllerRevision holds a record. Its data cannot change
// (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/),
// so that names the revision and the annotation has the rest. The pod template itself is
// in the revision's Deployment.
func controllerRevision(fc *v1alpha1.FlagCache, record canary.Record, existing *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	meta := observed.ChildMeta(fc, observed.RevisionName(fc, record.Revision), v1alpha1.ComponentService)
	meta.Labels[v1alpha1.LabelRevision] = record.Revision
	meta.Annotations = map[string]string{v1alpha1.AnnotationRecord: record.Encode()}
	holder := &appsv1.ControllerRevision{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"},
		ObjectMeta: meta,
		Revision:   fc.Generation,
		Data:       runtime.RawExtension{Raw: []byte(`{"revision":"` + record.Revision + `"}`)},
	}
	if existing != nil {
		holder.Revision = existing.Revision
	}
	return holder
}
