// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
	// unreadable are the revisions whose record cannot be decoded, and why.
	unreadable map[string]error
	// observed are the ControllerRevisions that hold the records.
	observed map[string]*appsv1.ControllerRevision
	// seal authenticates the pod templates.
	seal observed.Seal
}

// readHistory returns the records, for the plan to continue.
func readHistory(x *observed.Index) history {
	return history{records: maps.Clone(x.Records.Known), unreadable: x.Records.Unreadable, observed: x.Records.Holders, seal: x.Records.Seal}
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
		if r.Revision == stable || r.Outcome != canary.Promoted {
			continue
		}
		if c := r.FinishedAt.Compare(last.FinishedAt); !ok || c > 0 || c == 0 && r.Revision < last.Revision {
			last, ok = r, true
		}
	}
	return last, ok
}

// Bounds of a return to a revision without a canary: it is one of the last that were
// promoted, and stopped being the stable one a weekend ago at most.
const (
	maxReturns   = 3
	returnWithin = 72 * time.Hour
)

// mayReturn reports whether a revision may serve again without a canary: one that was
// promoted by the verdict of its canary, or that needed none, and served lately.
func (h history) mayReturn(x *observed.Index, record canary.Record) bool {
	if !record.PromotedByVerdict() {
		return false
	}
	later, next := 0, time.Time{}
	for _, other := range h.records {
		if other.Outcome != canary.Promoted || !other.FinishedAt.After(record.FinishedAt) {
			continue
		}
		if other.Revision != x.Stable {
			later++
		}
		if next.IsZero() || other.FinishedAt.Before(next) {
			next = other.FinishedAt
		}
	}
	return later < maxReturns && (next.IsZero() || x.Since(next) <= returnWithin)
}

// forgetWithdrawn lets commands have an effect again that were used and withdrawn.
func (h history) forgetWithdrawn(fc *v1alpha1.FlagCache) {
	for revision, record := range h.records {
		record.Used = record.Used.Among(canaryCommands(fc, revision))
		h.records[revision] = record
	}
}

// unreadableExcept are the revisions with a record that cannot be decoded, other than
// the stable one: that was never rejected.
func (h history) unreadableExcept(stable string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(h.unreadable)), func(revision string) bool { return revision == stable })
}

// objects are the ControllerRevisions as they should be: at most ten, and those in use
// among them in any case. Those with a record that cannot be decoded are kept as they
// are, for a person to repair. Templates are the known pod templates of those in use.
func (h history) objects(fc *v1alpha1.FlagCache, inUse []string, templates map[string]corev1.PodTemplateSpec) (write, keep []observed.Object) {
	others := maxRecords - len(inUse)
	for _, record := range h.newest() {
		if !slices.Contains(inUse, record.Revision) {
			if others--; others < 0 {
				continue
			}
		}
		var template *corev1.PodTemplateSpec
		if known, ok := templates[record.Revision]; ok {
			template = &known
		}
		write = append(write, controllerRevision(fc, h.seal, record, template, h.observed[record.Revision]))
	}
	for _, revision := range slices.Sorted(maps.Keys(h.unreadable)) {
		keep = append(keep, h.observed[revision])
	}
	return write, keep
}

// controllerRevision holds a record in an annotation, and the pod template in its data,
// which cannot change, with a seal. One that was made without the template, or with another
// one, has it in an annotation.
func controllerRevision(fc *v1alpha1.FlagCache, seal observed.Seal, record canary.Record, template *corev1.PodTemplateSpec, existing *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	meta := observed.ChildMeta(fc, observed.RevisionName(fc, record.Revision), v1alpha1.ComponentService)
	meta.Labels[v1alpha1.LabelRevision] = record.Revision
	meta.Annotations = map[string]string{v1alpha1.AnnotationRecord: record.Encode()}
	holder := &appsv1.ControllerRevision{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"},
		ObjectMeta: meta,
		Revision:   fc.Generation,
	}
	if existing == nil {
		holder.Data = runtime.RawExtension{Raw: observed.RevisionData(record.Revision, template)}
		if template != nil && seal.Usable() {
			meta.Annotations[v1alpha1.AnnotationSeal] = seal.Of(record.Revision, *template)
		}
		return holder
	}
	holder.Revision, holder.Data = existing.Revision, existing.Data
	for _, key := range []string{v1alpha1.AnnotationTemplate, v1alpha1.AnnotationSeal} {
		if value := existing.Annotations[key]; value != "" {
			meta.Annotations[key] = value
		}
	}
	if _, sealed := seal.Template(record.Revision, existing); sealed || template == nil || !seal.Usable() {
		return holder
	}
	meta.Annotations[v1alpha1.AnnotationSeal] = seal.Of(record.Revision, *template)
	if _, inData := seal.Template(record.Revision, holder); inData {
		delete(meta.Annotations, v1alpha1.AnnotationTemplate)
		return holder
	}
	if annotated := observed.TemplateAnnotation(*template); annotated != "" {
		meta.Annotations[v1alpha1.AnnotationTemplate] = annotated
	}
	return holder
}
