// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source"
)

// Why a document is not served.
var (
	errOutranked   = errors.New("what is served is as good or better")
	errOlder       = errors.New("the source's document is older than what is served")
	errShrunk      = errors.New("the document lost most of its flags and is to be read a second time")
	errNothingLeft = errors.New("none of its flags can be used")
)

// candidate is a document that could be served.
type candidate struct {
	data    []byte
	digest  string
	version source.Version
	origin  string
}

func fromSource(d source.Document) candidate {
	return candidate{data: d.Data, digest: d.Digest, version: d.Version, origin: OriginSource}
}

func fromEntry(e cache.Entry, origin string) candidate {
	return candidate{data: e.Data, digest: source.Digest(e.Data), version: e.Version, origin: origin}
}

// consider serves a document unless there is a reason not to, which it returns. If
// it is served already, that is confirmed.
func (r *Refresher) consider(c candidate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.Current()
	if current != nil && current.Digest == c.digest {
		r.sameAgain(current, c)
		return nil
	}
	if err := r.rank(c, current); err != nil {
		return err
	}
	next, problems, err := parse(c.data)
	if err != nil {
		return err
	}
	if err := r.confirmShrink(current, next, c.digest); err != nil {
		return err
	}
	next.Digest, next.Version, next.Origin, next.Generation = c.digest, c.version, c.origin, 1
	if current != nil {
		next.Generation = current.Generation + 1
		next.Version = r.order(c, current)
	}
	r.replace(next, problems)
	return nil
}

// rank says why a document does not come before what is served.
//
// A file is each instance's own, so it comes before all else, and Redis is for the
// time without it. A shared source and Redis tell of the same documents: there the
// newer one counts, wherever it is from.
func (r *Refresher) rank(c candidate, current *Snapshot) error {
	if !r.live(current) {
		return nil
	}
	age := c.version.Compare(current.Version)
	switch {
	case c.origin == OriginSource && !r.Source.Shared():
		return nil
	case c.origin == OriginSource && age < 0:
		return fmt.Errorf("%w: %s after %s", errOlder, c.version, current.Version)
	case c.origin == OriginSource:
		return nil
	case age <= 0, !r.Source.Shared() && r.sourceGood.Load():
		return errOutranked
	}
	return nil
}

// order is the version of a document that follows another. The file that is there
// now is the later one, also if it has an older date.
func (r *Refresher) order(c candidate, current *Snapshot) source.Version {
	next := c.version
	if !r.Source.Shared() && c.origin == OriginSource && current.Origin == OriginSource {
		next.Number = max(next.Number, current.Version.Number+1)
	}
	return next
}

// sameAgain notes that what is served was found once more, perhaps in a better place
// or as a newer version.
func (r *Refresher) sameAgain(current *Snapshot, c candidate) {
	if c.origin == OriginSource {
		r.shrunk = ""
	}
	next := *current
	if c.version.Compare(next.Version) > 0 || !r.live(current) {
		next.Version = c.version
	}
	if c.origin == OriginSource || !r.live(current) {
		next.Origin = c.origin
	}
	if next.Version != current.Version || next.Origin != current.Origin {
		r.current.Store(&next)
	}
	r.confirm()
}

// leastLost is how many flags a set must lose for a second reading to be wanted:
// one or two more or less are everyday changes to a small set.
const leastLost = 3

// confirmShrink wants a document that lost more than half of the flags to be read
// again, later, and to be the same then: a file that is being written, a database
// that is being restored and a mistake that is mended at once are none of those.
func (r *Refresher) confirmShrink(current, next *Snapshot, digest string) error {
	if current == nil || current.Set.Len()-next.Set.Len() < leastLost || 2*next.Set.Len() >= current.Set.Len() {
		r.shrunk = ""
		return nil
	}
	if r.shrunk != digest {
		r.shrunk, r.shrunkAt = digest, r.Now()
		r.Log.Warn("the flags became far fewer, reading them again before they are served",
			"served", current.Set.Len(), "read", next.Set.Len())
		return errShrunk
	}
	if r.Now().Sub(r.shrunkAt) < r.ShrinkDelay {
		return errShrunk
	}
	r.shrunk = ""
	return nil
}

// parse compiles a document. One whose flags were all rejected is of no use. A
// panic is one document's fault and must not end the service, nor every other
// instance that reads it.
func parse(data []byte) (s *Snapshot, problems []flags.Problem, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s, problems, err = nil, nil, fmt.Errorf("the flags document cannot be used: parsing it failed: %v", cause)
		}
	}()
	set, problems, err := flags.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("the flags document cannot be used: %w", err)
	}
	if set.Len() == 0 && len(problems) > 0 {
		return nil, nil, fmt.Errorf("the flags document cannot be used: %w; the first problem: %s", errNothingLeft, problems[0])
	}
	return &Snapshot{Set: set, Data: data, Rejected: len(problems)}, problems, nil
}

// replace makes a snapshot the current one.
func (r *Refresher) replace(next *Snapshot, problems []flags.Problem) {
	r.Serve(next.Set)
	r.confirm()
	r.current.Store(next)
	r.announce(next, problems)
	wake(r.served)
}

// mostProblems is how many problems of a document are logged.
const mostProblems = 20

func (r *Refresher) announce(s *Snapshot, problems []flags.Problem) {
	r.Log.Info("serving flags", "generation", s.Generation, "flags", s.Set.Len(), "origin", s.Origin, "digest", s.Digest[:12])
	for i, problem := range problems {
		if i == mostProblems {
			r.Log.Warn("more problems are not logged", "problems", len(problems))
			return
		}
		r.Log.Warn("found a problem in the flags", "problem", problem.String())
	}
}

// confirm notes that what is served is fresh.
func (r *Refresher) confirm() {
	now := r.Now()
	r.confirmed.Store(&now)
}

// sourceFailed notes that the source has nothing to serve, logged when the reason
// changes.
func (r *Refresher) sourceFailed(err error) {
	r.sourceGood.Store(false)
	trouble := err.Error()
	previous := r.sourceTrouble.Swap(&trouble)
	if previous != nil && *previous == trouble {
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
	if r.sourceTrouble.Swap(nil) != nil {
		r.Log.Info("the source can be used again")
	}
}
