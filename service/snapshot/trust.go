// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/source"
)

// Redis is a hint: a document in it is right if the source confirms it. A version
// alone confirms nothing. The database may have been reset to an earlier state
// while no instance ran, two databases may share one Redis, and whoever can write
// to Redis can choose a version.

const (
	// silentAfter is the time without a report after which a source counts as
	// silent. A database reports about every two seconds.
	silentAfter = 5 * time.Second
	// unconfirmedFor is the time after which a document in Redis that the source does
	// not confirm is replaced: the source may be about to report it.
	unconfirmedFor = 3 * time.Second
	// firstReport is the time for which a new instance waits for the source's first
	// report before it uses a document that is not confirmed.
	firstReport = time.Second
	// maxClockSkew is how far in the future a file may have been modified.
	maxClockSkew = config.FlagsClockSkew * time.Second
)

// Reasons for not using a document in Redis.
var (
	errUnconfirmed = errors.New("the source does not have this document")
	errUnverified  = errors.New("it was sealed with another integrity key, as by another program for the same flags")
	errImplausible = errors.New("its version is not that of a file, or in the future")
)

// Labels of the reasons in the metric of documents that were not used.
const (
	refusedForeign     = "foreign"
	refusedUnconfirmed = "unconfirmed"
	refusedImplausible = "implausible"
	refusedUnverified  = "unverified"
)

// refusalOf returns the label of the reason why a document was refused, empty for
// any other error.
func refusalOf(err error) string {
	switch {
	case errors.Is(err, cache.ErrForeign):
		return refusedForeign
	case errors.Is(err, errUnconfirmed):
		return refusedUnconfirmed
	case errors.Is(err, errImplausible):
		return refusedImplausible
	case errors.Is(err, errUnverified):
		return refusedUnverified
	default:
		return ""
	}
}

// report is what the source last reported.
type report struct {
	state source.State
	// at is when that was; heard is false before the first report.
	at    time.Time
	heard bool
}

// silent reports whether the source is not heard of.
func (p report) silent(now time.Time) bool { return !p.heard || now.Sub(p.at) >= silentAfter }

// record returns the report after another one. A replica that is behind does not
// take back what was reported before.
func (p report) record(state source.State, now time.Time) report {
	if p.heard && state.Lagging && state.Store == p.state.Store && state.Version.Compare(p.state.Version) < 0 {
		state = p.state
	}
	return report{state: state, at: now, heard: true}
}

// judge decides whether a document in Redis may be served: nil, or the reason not
// to. While the source is silent, a newer document of its store may be: another
// instance may still reach the source.
func (p report) judge(e source.State, now time.Time) error {
	switch {
	case !e.SameStore(p.state):
		return cache.ErrForeign
	case p.silent(now), p.state.Confirms(e):
		return nil
	case e.Store == p.state.Store && e.Version.Compare(p.state.Version) < 0:
		return errNotNewer
	default:
		return errUnconfirmed
	}
}

// arbiter decides which documents may be served, by what the source reported.
type arbiter struct {
	// shared and store describe the source: see Options.Store.
	shared bool
	store  string
	// numbered and authenticated: see Options.
	numbered, authenticated bool
	log                     *slog.Logger
	// reported is what the source last reported; suspect means that it reported a
	// change without a version.
	reported report
	suspect  bool
}

// admit decides whether a document may be considered at all, and whether the
// source confirms it. What the source itself returned is its state from then on.
func (a *arbiter) admit(c *proposal, now time.Time) error {
	switch {
	case c.unverified:
		return a.refuseUnverified(c.state)
	case c.origin == OriginSource && a.shared:
		if !a.reported.heard || !c.state.SameStore(a.reported.state) || c.state.Version.Compare(a.reported.state.Version) > 0 {
			a.reported = a.reported.record(c.state, now)
		}
	case c.origin == OriginCache && a.shared:
		if err := a.reported.judge(c.state, now); err != nil {
			return err
		}
		c.confirmed = a.reported.heard && a.reported.state.Confirms(c.state)
	case c.origin == OriginCache:
		return a.admitWithoutSource(c.state, now)
	}
	return nil
}

// refuseUnverified returns why a document that was sealed with another integrity key is
// not used: it claims to be that of another store, or it may be that of this one.
func (a *arbiter) refuseUnverified(claimed source.State) error {
	own := source.State{Store: a.store}
	if a.shared {
		own = a.reported.state
	}
	if !claimed.SameStore(own) {
		return cache.ErrForeign
	}
	return errUnverified
}

// admitWithoutSource decides whether a document in Redis may stand in for a file.
func (a *arbiter) admitWithoutSource(e source.State, now time.Time) error {
	switch {
	case !e.SameStore(source.State{Store: a.store}):
		return cache.ErrForeign
	case a.numbered && e.Version.Epoch == source.PublishedEpoch && e.Version.Number > 0 && plausibleNumber(e.Version.Number, now):
		return nil
	case e.Version.Epoch != 0, e.Version.Number > now.Add(maxClockSkew).UnixNano():
		return errImplausible
	}
	return nil
}

// plausibleNumber reports whether an operator can have given out a number, by the clock of
// this instance.
func plausibleNumber(number int64, now time.Time) bool {
	return number <= now.Add(maxClockSkew).Unix()+config.FlagsNumberLead
}

// numberOf returns the version of a published document. One whose number is not plausible
// precedes all others: whoever edited the ConfigMap, or set a clock, must not choose one that
// no later document reaches.
func numberOf(version source.Version, now time.Time) source.Version {
	if !plausibleNumber(version.Number, now) {
		version.Number = 0
	}
	return version
}

// checkNumber returns an error if a numbered document does not take precedence over the served
// one of the same store: the highest number does, wherever it was read. The source's takes
// precedence over another one with the same number. One that is in Redis for too long, which
// somebody may have stored again, takes none.
func (a *arbiter) checkNumber(c proposal, current *Snapshot, sourceGood bool) error {
	age := c.state.Version.Compare(current.Version)
	switch {
	case c.origin == OriginSource && age < 0:
		return errBehind
	case c.origin == OriginSource, age > 0 && !c.stale && (a.authenticated || !sourceGood):
		return nil
	default:
		return errNotNewer
	}
}

// checkPrecedence returns an error if a document does not take precedence over
// the served one.
//
// Numbers take precedence by their order. Another file belongs to each instance, so it takes
// precedence over all else, and Redis is used only without it. With a shared source, its document takes
// precedence, even if its version is older, unless the source has reported a newer
// one since or is a replica that may be behind. A document in Redis that the source
// confirms does, too; one that it does not confirm must be newer. Versions of different
// stores are not compared: a document of the store that the source reported takes
// precedence over one of another store.
func (a *arbiter) checkPrecedence(c proposal, current *Snapshot, sourceGood bool) error {
	if a.numbered && current != nil && c.state.SameStore(current.State) {
		return a.checkNumber(c, current, sourceGood)
	}
	if !live(current) {
		return nil
	}
	age := c.state.Version.Compare(current.Version)
	switch {
	case c.origin == OriginSource && !a.shared:
		return nil
	case a.shared && !c.state.SameStore(current.State):
		return a.checkStore(c, current)
	case c.origin == OriginSource && age < 0 && a.outdated(c, current):
		return fmt.Errorf("%w: %s after %s", errOlder, c.state.Version, current.Version)
	case c.origin == OriginSource && age < 0:
		a.log.Warn("the source has an older document than the one served, serving the source's",
			"source", c.state.Version.String(), "served", current.Version.String(), "confirmed", current.Confirmed)
		return nil
	case c.origin == OriginSource && age == 0 && a.shared && current.Origin != OriginLastGood && !current.Confirmed:
		a.log.Warn("the source has another document of the same version than Redis, serving the source's", "version", c.state.Version.String())
		return nil
	case c.origin == OriginSource, c.confirmed:
		return nil
	case age <= 0, !a.shared && sourceGood:
		return errNotNewer
	}
	return nil
}

// checkStore returns an error if a document of another store than that of the served
// one does not take precedence: before the source's first report, it is unknown which of
// the stores in Redis is the source's.
func (a *arbiter) checkStore(c proposal, current *Snapshot) error {
	if c.origin != OriginSource && !a.reported.heard {
		return errNotNewer
	}
	a.log.Warn("the source is another store than that of the served flags, serving the source's",
		"source", c.state.Store, "served", current.Store)
	return nil
}

// outdated reports whether an older document of the source is only late: the
// source has reported a newer one, or is a replica that may be behind.
func (a *arbiter) outdated(c proposal, current *Snapshot) bool {
	newer := a.reported.state.SameStore(c.state) && a.reported.state.Version.Compare(c.state.Version) > 0
	return newer || current.Confirmed && c.state.Lagging
}

// refusals has why documents in Redis are not used, and logs each change
// of the reason once. Only the loop that reads Redis uses it.
type refusals struct {
	last string
	// refused is the document that is not confirmed, and since when.
	refused source.State
	since   time.Time
	// replaced is when a document was last replaced.
	replaced time.Time
}

// note records the result of judging a document.
func (f *refusals) note(err error, e source.State, now time.Time, log *slog.Logger) {
	refusal := refusalOf(err)
	if refusal != refusedUnconfirmed && refusal != refusedUnverified {
		f.since = time.Time{}
	} else if f.since.IsZero() || f.refused != e {
		f.refused, f.since = e, now
	}
	previous := f.last
	f.last = refusal
	if refusal == "" || refusal == previous {
		return
	}
	log.Warn("not using the document in Redis", "reason", err, "store", e.Store, "version", e.Version.String())
}

// replace reports whether a document that the source does not confirm is now to be
// replaced by that of a version, at most once per interval: otherwise two stores
// that look the same would replace each other's document all the time. One of the
// same version without a store is that of an instance of an earlier release, which
// would discard what replaces it.
func (f *refusals) replace(by source.Version, now time.Time, interval time.Duration) bool {
	if f.refused.Store == "" && f.refused.Version == by {
		return false
	}
	if f.since.IsZero() || now.Sub(f.since) < unconfirmedFor || !f.replaced.IsZero() && now.Sub(f.replaced) < interval {
		return false
	}
	f.replaced = now
	return true
}
