// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source"
)

// Reasons for not serving a document.
var (
	errNotNewer    = errors.New("the served flags are at least as recent")
	errBehind      = errors.New("the source has a document with a lower number than the served one")
	errOlder       = errors.New("the source's document is older than the served flags")
	errShrunk      = errors.New("the document lost most of its flags and must be read again before it is served")
	errNoValidFlag = errors.New("none of its flags is valid")
)

// proposal is a document that may be served.
type proposal struct {
	data   []byte
	digest string
	state  source.State
	origin string
	// modified is when it was written, zero if that is unknown.
	modified time.Time
	// confirmed means that the source has it.
	confirmed bool
	// unverified means that it was sealed with another integrity key, so that it has no
	// data.
	unverified bool
	// stale means that it is from Redis, and was stored longer ago than it may be there.
	stale bool
}

func fromSource(d source.Document) proposal {
	return proposal{data: d.Data, digest: d.Digest, state: d.State, origin: OriginSource, modified: d.Modified, confirmed: true}
}

func fromEntry(e cache.Entry, origin string) proposal {
	return proposal{data: e.Data, digest: source.Digest(e.Data), state: e.State, origin: origin, stale: e.Stale}
}

// consider serves a document, or returns the reason not to. If the document is
// already served, its freshness is confirmed.
func (r *Refresher) consider(c proposal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.Current()
	if err := r.arbiter.admit(&c, r.Now()); err != nil {
		return err
	}
	if current != nil && current.Digest == c.digest {
		r.confirmCurrent(current, c)
		return nil
	}
	if err := r.arbiter.checkPrecedence(c, current, r.sourceGood.Load()); err != nil {
		return err
	}
	next, problems, err := parse(c.data)
	if err != nil {
		r.refused.Store(int64(len(problems)))
		return err
	}
	if err := r.confirmShrink(current, next, c.digest); err != nil {
		return err
	}
	next.Digest, next.State, next.Confirmed, next.Origin, next.Generation = c.digest, c.state, c.confirmed, c.origin, 1
	if current != nil {
		next.Generation = current.Generation + 1
		next.Version = versionAfter(c, current, r.Source.Shared() || r.Numbered)
	}
	next.Lagging = false
	if next.Modified = c.modified; next.Modified.IsZero() {
		next.Modified = r.Now()
	}
	r.replace(next, problems)
	return nil
}

// versionAfter returns the version of a document that replaces the current one.
// The current file is considered the later one, even if its modification time
// is older. Other sources give exact versions.
func versionAfter(c proposal, current *Snapshot, exact bool) source.Version {
	next := c.state.Version
	if !exact && c.origin == OriginSource && current.Origin == OriginSource {
		next.Number = max(next.Number, current.Version.Number+1)
	}
	return next
}

// confirmCurrent records that the served document was read again, possibly from a
// source that takes precedence or with another version.
func (r *Refresher) confirmCurrent(current *Snapshot, c proposal) {
	if c.origin == OriginSource {
		r.shrunk = ""
		r.refused.Store(0)
	}
	next := *current
	next.State, next.Confirmed = reread(current, c, r.Source.Shared())
	if c.origin == OriginSource || !live(current) {
		next.Origin = c.origin
	}
	if !c.modified.IsZero() && next.Version == c.state.Version {
		next.Modified = c.modified
	}
	if next.State != current.State || next.Origin != current.Origin || next.Confirmed != current.Confirmed || !next.Modified.Equal(current.Modified) {
		r.current.set(&next)
	}
	r.confirm()
}

// reread returns the state of the served document after it was read again, and
// whether the source confirmed that state. What Redis has is only a claim: it neither
// replaces a state that the source confirmed, nor the store of a file. But the versions
// of a file continue from that in Redis.
func reread(current *Snapshot, c proposal, shared bool) (state source.State, confirmed bool) {
	newer := c.state.Version.Compare(current.Version) > 0
	state, confirmed = current.State, current.Confirmed || c.confirmed
	switch {
	case !live(current), shared && c.confirmed, shared && newer && !current.Confirmed:
		state, confirmed = c.state, c.confirmed
	case !shared && newer:
		state.Version = c.state.Version
	}
	if !shared && c.origin == OriginSource {
		state.Store = c.state.Store
	}
	state.Lagging = false
	return state, confirmed
}

// minShrink is the number of flags that a set must lose to be read a second
// time: losing one or two is an everyday change of a small set.
const minShrink = 3

// confirmShrink returns errShrunk for a document that lost more than half of
// the flags, until a later read returns the same document. This excludes a file
// that is being written, a database that is being restored and a mistake that
// is corrected at once.
func (r *Refresher) confirmShrink(current, next *Snapshot, digest string) error {
	if current == nil || current.Set.Len()-next.Set.Len() < minShrink || 2*next.Set.Len() >= current.Set.Len() {
		r.shrunk = ""
		return nil
	}
	if r.shrunk != digest {
		r.shrunk, r.shrunkAt = digest, r.Now()
		r.Log.Warn("most flags are missing from the document, reading it again before serving it",
			"served", current.Set.Len(), "read", next.Set.Len())
		return errShrunk
	}
	if r.Now().Sub(r.shrunkAt) < r.ShrinkDelay {
		return errShrunk
	}
	r.shrunk = ""
	return nil
}

// parse compiles a document. A document whose flags were all rejected is
// unusable. A panic is caused by the document, and must not terminate this
// service and all other instances that read it.
func parse(data []byte) (s *Snapshot, problems []flags.Problem, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s, problems, err = nil, nil, fmt.Errorf("the flags document is unusable: parsing it panicked: %v", cause)
		}
	}()
	set, problems, err := flags.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("the flags document is unusable: %w", err)
	}
	rejecting := slices.IndexFunc(problems, func(p flags.Problem) bool { return !p.Served })
	if set.Len() == 0 && rejecting >= 0 {
		return nil, problems, fmt.Errorf("the flags document is unusable: %w; the first problem: %s", errNoValidFlag, problems[rejecting])
	}
	return &Snapshot{Set: set, Data: data, Rejected: len(problems)}, problems, nil
}

// replace serves a new snapshot.
func (r *Refresher) replace(next *Snapshot, problems []flags.Problem) {
	r.Serve(next.Set)
	r.refused.Store(0)
	r.confirm()
	r.current.set(next)
	r.logServing(next, problems)
	wake(r.served)
}

// maxLoggedProblems limits the problems of one document that are logged.
const maxLoggedProblems = 20

func (r *Refresher) logServing(s *Snapshot, problems []flags.Problem) {
	r.Log.Info("serving flags", "generation", s.Generation, "flags", s.Set.Len(), "origin", s.Origin, "digest", s.Digest[:12])
	for i, problem := range problems {
		if i == maxLoggedProblems {
			r.Log.Warn("further problems are not logged", "problems", len(problems))
			return
		}
		r.Log.Warn("found a problem in the flags", "problem", problem.String())
	}
}

// confirm records that the served flags are fresh.
func (r *Refresher) confirm() {
	now := r.Now()
	r.confirmed.Store(&now)
}

// sourceFailed records that the source has no usable document. It logs the
// reason when it changes.
func (r *Refresher) sourceFailed(err error) {
	r.sourceGood.Store(false)
	reason := err.Error()
	previous := r.sourceError.Swap(&reason)
	if previous != nil && *previous == reason {
		return
	}
	kept := "none"
	if current := r.Current(); current != nil {
		kept = fmt.Sprintf("generation %d", current.Generation)
	}
	r.Log.Error("cannot use the source, keeping the last good flags", "error", err, "kept", kept)
}

func (r *Refresher) sourceRecovered() {
	r.sourceGood.Store(true)
	if r.sourceError.Swap(nil) != nil {
		r.Log.Info("the source is usable again")
	}
}
