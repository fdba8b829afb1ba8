// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"fmt"
	"time"
)

// Outcome is what became of a revision.
type Outcome string

// Outcomes. A revision without one is new, or being evaluated.
const (
	// Promoted: the revision was observed to serve, with pods that were ready.
	Promoted Outcome = "Promoted"
	// RolledBack: the revision was rejected. It is not tried again until the spec
	// requests another one, or a person retries it.
	RolledBack Outcome = "RolledBack"
	// Superseded: the spec requested another revision before the canary ended.
	Superseded Outcome = "Superseded"
)

// Record is what is known of a revision. It is kept in an annotation of the revision's
// ControllerRevision, so that no decision depends on memory: a crash between any two
// writes loses nothing but time.
type Record struct {
	Revision string
	Outcome  Outcome
	// Reason and Message say why, as in a condition.
	Reason, Message string
	// StartedAt is when the revision was first observed, FinishedAt when its outcome was
	// known.
	StartedAt, FinishedAt time.Time
	// Lifted ends a rejection: the spec has requested another revision since.
	Lifted bool
	// Passed: of a revision that was promoted, that its canary passed or it needed none,
	// and nobody promoted it by hand. Of one without an outcome, that it needs no canary,
	// because it served lately.
	Passed bool
	// Admitted: the Service may select the revision from now on. A selector that names a
	// revision which was neither admitted nor promoted was edited by somebody.
	Admitted bool
	// Retried: this canary was requested by the command for a retry.
	Retried bool
	// Used are the commands that were given when an earlier attempt of the revision ended.
	// They have no effect on the next one, until they are withdrawn and given again.
	Used Commands
	// Intent identifies what the spec requested, whatever the connection to the cache
	// turned out to be. It is kept where the connection may be deleted with a rejected
	// revision.
	Intent string
	// Canary is how far the revision's canary got, nil where there was none.
	Canary *State
}

// NewRecord returns the record of a revision that is first observed now.
func NewRecord(revision string, now time.Time) Record {
	return Record{Revision: revision, StartedAt: now.UTC().Truncate(time.Second)}
}

// Rejected reports whether the revision must not be tried.
func (r Record) Rejected() bool { return r.Outcome == RolledBack && !r.Lifted }

// Finished returns the record with an outcome.
func (r Record) Finished(now time.Time, outcome Outcome, reason, message string) Record {
	r.Outcome, r.Reason, r.Message, r.FinishedAt = outcome, reason, message, now.UTC().Truncate(time.Second)
	r.Admitted = false
	return r
}

// Superseded returns the record of a revision that the spec replaced by another.
func (r Record) Superseded(now time.Time, by string) Record {
	return r.Finished(now, Superseded, "Superseded", fmt.Sprintf("the spec requested revision %s", by))
}

// Promoted returns the record of a revision that was observed to serve, after one that was
// promoted before: the order of promotions does not depend on the clock. Of a canary with
// so many steps all had to pass. What it was judged by is kept to explain the decision; the
// last readings of its counters are not.
func (r Record) Promoted(now, before time.Time, steps int) Record {
	if next := before.Add(time.Second); !before.IsZero() && now.Before(next) {
		now = next
	}
	r = r.Finished(now, Promoted, "Promoted", "the Service selects the revision")
	r.Passed = r.Canary == nil || r.Canary.Progress.Step > steps && !r.forced()
	if r.Canary != nil {
		state := *r.Canary
		state.Ledger.Streams = nil
		r.Canary = &state
	}
	return r
}

// forced reports whether a person promoted the revision.
func (r Record) forced() bool { return r.Canary != nil && r.Canary.Progress.Forced }

// PromotedByVerdict reports whether the revision was promoted, and not by a person.
func (r Record) PromotedByVerdict() bool { return r.Outcome == Promoted && r.Passed && !r.forced() }

// Again returns the record of another attempt of the revision, which may need no canary.
// The last readings of its counters are kept, because the counters continue from there. Of
// a revision that was promoted they are not known, and its pods may still run.
func (r Record) Again(now time.Time, retried, passed bool) Record {
	next := NewRecord(r.Revision, now)
	next.Passed, next.Retried, next.Used = passed, retried, r.Used
	switch {
	case passed:
	case r.Outcome == Promoted:
		next.Canary = &State{Ledger: Ledger{Continues: true}}
	case r.Canary != nil:
		next.Canary = &State{Ledger: Ledger{Origin: r.Canary.Ledger.Origin, Streams: r.Canary.Ledger.Streams}}
	}
	return next
}
