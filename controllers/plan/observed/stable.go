// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flagcache/flagcache/controllers/canary"
)

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

// baselineRevision is the revision that serves clients while no candidate does, and that a
// candidate is compared with. It is the stable one, or, while that has no ready pod, another
// one that served before. That one stays until the stable revision has as many ready pods
// as it has, or all that it is to have.
func baselineRevision(x *Index) string {
	if len(x.Predecessors) == 0 {
		return x.Stable
	}
	other, stable := x.Predecessors[0], x.ReadyPods(x.Stable)
	ready, standsIn := x.ReadyPods(other), x.Records.standsIn(other)
	if standsIn && stable < min(ready, x.desiredPods(x.Stable)) || stable == 0 && (ready > 0 || standsIn) {
		return other
	}
	return x.Stable
}

// ReadyPods is the number of ready pods of a revision.
func (x *Index) ReadyPods(revision string) int32 {
	if d := x.Revisions[revision]; d != nil {
		return d.Status.ReadyReplicas
	}
	return 0
}

// desiredPods is the number of pods that a revision is to have.
func (x *Index) desiredPods(revision string) int32 {
	if d := x.Revisions[revision]; d != nil && d.Spec.Replicas != nil {
		return *d.Spec.Replicas
	}
	return 1
}

// predecessors are the revisions that served before, besides the stable one, and have a
// Deployment: first those that have ready pods, of these the one that serves in place of the
// stable revision, and then the last one that was promoted.
func predecessors(x *Index) []string {
	var others []string
	for revision, record := range x.Records.Known {
		served := record.Outcome == canary.Promoted || record.Passed && !record.Rejected()
		if served && revision != x.Stable && x.Revisions[revision] != nil {
			others = append(others, revision)
		}
	}
	first := func(is func(string) bool, a, b string) int {
		switch {
		case is(a) == is(b):
			return 0
		case is(a):
			return -1
		default:
			return 1
		}
	}
	slices.SortFunc(others, func(a, b string) int {
		return cmp.Or(
			first(func(r string) bool { return x.ReadyPods(r) > 0 }, a, b),
			first(x.Records.standsIn, a, b),
			x.Records.Known[b].FinishedAt.Compare(x.Records.Known[a].FinishedAt),
			strings.Compare(a, b),
		)
	})
	return others
}

// standsIn reports whether it is on record that the Service may select a revision, which
// was promoted before, in place of the stable one.
func (r Records) standsIn(revision string) bool {
	record := r.Known[revision]
	return record.Outcome == canary.Promoted && record.Admitted
}
