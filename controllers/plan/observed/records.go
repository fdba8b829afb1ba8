// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"errors"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Records are what is on record about the revisions of a FlagCache, by revision. A
// ControllerRevision is about the revision in its name, which nobody can change, whatever
// its labels say.
type Records struct {
	// Known are the records that can be decoded.
	Known map[string]canary.Record
	// Unreadable are the revisions whose record cannot be decoded, and why. What is on
	// record about them is unknown, which is not the same as nothing: they may have been
	// rejected.
	Unreadable map[string]error
	// Holders are the ControllerRevisions that hold the records.
	Holders map[string]*appsv1.ControllerRevision
}

// readRecords decodes the records.
func readRecords(x *Index) Records {
	r := Records{Known: map[string]canary.Record{}, Unreadable: map[string]error{}, Holders: map[string]*appsv1.ControllerRevision{}}
	for _, holder := range All[*appsv1.ControllerRevision](x) {
		revision, ok := RevisionOf(x.FlagCache, holder.Name)
		if !ok || holder.DeletionTimestamp != nil {
			continue
		}
		r.Holders[revision] = holder
		record, err := decodeRecord(holder.Annotations[v1alpha1.AnnotationRecord], revision)
		if err != nil {
			r.Unreadable[revision] = err
			continue
		}
		r.Known[revision] = record
	}
	return r
}

func decodeRecord(text, revision string) (canary.Record, error) {
	record, err := canary.Decode(text)
	if err != nil {
		return canary.Record{}, err
	}
	if record.Revision != revision {
		return canary.Record{}, errors.New("the record is about another revision than the ControllerRevision's name")
	}
	return record, nil
}

// Template is the pod template of a revision that is on record; false if there is none.
func (r Records) Template(revision string) (corev1.PodTemplateSpec, bool) {
	holder := r.Holders[revision]
	if holder == nil {
		return corev1.PodTemplateSpec{}, false
	}
	return TemplateOf(holder)
}

// stableRevision is the revision that was promoted last. The Service selects it, and the
// status names it, but both are no more than hints: anybody can edit the Service, and the
// status may be behind.
//
//	the Service selects the revision that was promoted last,
//	or one that is on record as admitted to serve           ──▶ that one
//	Service and status agree, and the revision exists       ──▶ that one: its record was lost
//	the status names one that runs, and its record was lost ──▶ that one
//	some revision was promoted                              ──▶ the last one
//	none was: the first has not been available yet          ──▶ the one that the Service
//	                                                            selects, or the status names
func stableRevision(x *Index) string {
	selected, reported := x.Selected, ""
	if r := x.FlagCache.Status.Revisions; r != nil {
		reported = r.Stable
	}
	_, known := x.Records.Known[reported]
	last := x.Records.lastPromoted(selected, reported)
	switch {
	case x.Records.admitted(selected), selected != "" && selected == last:
		return selected
	case selected != "" && selected == reported && (known || x.Revisions[selected] != nil):
		return selected
	case !known && x.Revisions[reported] != nil:
		return reported
	case last != "":
		return last
	case x.Revisions[selected] != nil:
		return selected
	case x.Revisions[reported] != nil:
		return reported
	default:
		return ""
	}
}

// admitted reports whether it is on record that the Service may select a revision that
// was not promoted yet.
func (r Records) admitted(revision string) bool {
	record, ok := r.Known[revision]
	return ok && record.Outcome == "" && record.Admitted
}

// lastPromoted is the revision that was promoted last, "" if none was. Of two that were
// promoted in the same second the one that is preferred is the last.
func (r Records) lastPromoted(preferred ...string) string {
	var last canary.Record
	for _, record := range r.Known {
		if record.Outcome != canary.Promoted {
			continue
		}
		switch c := record.FinishedAt.Compare(last.FinishedAt); {
		case last.Revision == "", c > 0, c == 0 && rank(record.Revision, preferred) < rank(last.Revision, preferred):
			last = record
		case c == 0 && rank(record.Revision, preferred) == rank(last.Revision, preferred) && record.Revision < last.Revision:
			last = record
		}
	}
	return last.Revision
}

// rank is the position of a revision among the preferred ones, or behind all of them.
func rank(revision string, preferred []string) int {
	for i, p := range preferred {
		if p == revision {
			return i
		}
	}
	return len(preferred)
}
