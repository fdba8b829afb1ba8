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
	// Seal authenticates the pod templates in them.
	Seal Seal
}

// readRecords decodes the records.
func readRecords(x *Index) Records {
	r := Records{Known: map[string]canary.Record{}, Unreadable: map[string]error{}, Holders: map[string]*appsv1.ControllerRevision{}, Seal: sealOf(x)}
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

// Template is the pod template of a revision that is on record, as the operator wrote it; false
// if there is none.
func (r Records) Template(revision string) (corev1.PodTemplateSpec, bool) {
	holder := r.Holders[revision]
	if holder == nil {
		return corev1.PodTemplateSpec{}, false
	}
	return r.Seal.Template(revision, holder)
}
