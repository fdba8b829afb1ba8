// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Ledger is what was counted since a canary began. Its methods return another ledger
// and leave the receiver as it was.
type Ledger struct {
	// Origin of all counts, "" before the first sample.
	Origin string
	// Continues: pods of the candidate may have run before the canary, so that what their
	// streams have at the first sample happened before.
	Continues bool
	// SampledAt is when the last sample was taken.
	SampledAt time.Time
	// Streams are the last readings of each stream.
	Streams map[string]Reading
	// Candidate and Stable are all events since the canary began.
	Candidate, Stable Counters
	// Local is how many requests stable pods answered by themselves.
	Local int64
	// CandidateAtStep and LocalAtStep are Candidate and Local as the step began.
	CandidateAtStep Counters
	LocalAtStep     int64
	// RecentCandidate and RecentStable are the events of the last samples.
	RecentCandidate, RecentStable Decaying
	// Blocks of the candidate's events, where the policy groups them by time; nil where it
	// does not.
	Blocks *TimeBlocks
}

// Reading is what a ledger has counted of a stream.
type Reading struct {
	Counts Counters
	Local  int64
	// Missed is the number of consecutive samples without the stream.
	Missed int
}

const (
	// maxMissed is how many consecutive samples may lack a stream before it is forgotten:
	// a pod that is only unreachable returns sooner.
	maxMissed = 100
	// maxStreams keeps a record below the 256 KiB that all annotations of an object may
	// have; a stream takes about 270 bytes.
	maxStreams = 700
)

// Sample is evidence with what a ledger needs to record it.
type Sample struct {
	Evidence
	// Candidate is the revision that the canary is about; all others count as stable.
	Candidate string
	// Confounded: something that both revisions depend on was failing, or the candidate's
	// pods were unavailable, so that the events are no evidence about the release.
	Confounded bool
	// Interval between samples. Of the time between two, at most twice as much counts.
	Interval time.Duration
	// SharedAt is since when the candidate has had the share of its step, zero while it has
	// not, and SharedFor how long that is, also by a clock that jumped.
	SharedAt  time.Time
	SharedFor time.Duration
	// Policy that the events are judged by.
	Policy Policy
}

// isNew reports whether a sample was not recorded yet.
func (l Ledger) isNew(e Evidence) bool { return !e.At.IsZero() && !e.At.Equal(l.SampledAt) }

// switchesSource reports whether a sample is the first of another origin.
func (l Ledger) switchesSource(e Evidence) bool {
	return l.isNew(e) && l.Origin != "" && e.Origin != l.Origin
}

// Record adds what a sample has that was not counted yet, and returns for how much time of
// the step it was observed: the time since the last sample, not since the last reconcile, as
// far as the candidate had the share of the step. Events that may have happened before it had
// that do not count for the step. Of a confounded sample only the readings are kept.
func (l Ledger) Record(s Sample) (next Ledger, observed time.Duration) {
	if !l.isNew(s.Evidence) {
		return l, 0
	}
	if l.switchesSource(s.Evidence) {
		l = l.switchSource(s.Evidence)
	}
	l.Origin = s.Origin
	since, blocks := l.SampledAt, l.Blocks
	observed = countedTime(since, s.At, s.Interval)
	l.SampledAt = s.At.UTC()
	streams, candidate, stable, local := l.read(s, since.IsZero())
	l.Streams = streams
	if s.Confounded {
		return l, 0
	}
	l.Candidate, l.Stable, l.Local = l.Candidate.plus(candidate), l.Stable.plus(stable), l.Local+local
	l.RecentCandidate, l.RecentStable = l.RecentCandidate.plus(candidate), l.RecentStable.plus(stable)
	l.Blocks = l.Blocks.add(candidate, stable, observed, s.Policy)
	switch {
	case s.SharedAt.IsZero(), s.SharedFor < s.Lag:
		return l.outsideStep(candidate, local, blocks), 0
	case since.Before(s.SharedAt):
		return l.outsideStep(candidate, local, blocks), min(observed, countedTime(s.SharedAt, s.At, s.Interval))
	}
	return l, observed
}

// outsideStep excludes from the step what was counted last, with the blocks from before.
func (l Ledger) outsideStep(candidate Counters, local int64, before *TimeBlocks) Ledger {
	l.CandidateAtStep, l.LocalAtStep = l.CandidateAtStep.plus(candidate), l.LocalAtStep+local
	l.Blocks = l.Blocks.outsideStep(before)
	return l
}

// switchSource forgets all counts. Evidence of another origin is about the same events,
// so it replaces what was counted. Its streams count from their present readings on,
// because what they counted before may have happened before the canary.
func (l Ledger) switchSource(e Evidence) Ledger {
	next := Ledger{Origin: e.Origin, SampledAt: l.SampledAt, Streams: map[string]Reading{}}
	if l.Blocks != nil {
		next.Blocks = &TimeBlocks{}
	}
	for _, stream := range e.Streams {
		next.Streams[stream.ID] = stream.reading()
	}
	return next
}

func (s Stream) reading() Reading { return Reading{Counts: maps.Clone(s.Counts), Local: s.Local} }

// read returns the readings of a sample and what is new in them. A candidate's stream
// began after the canary did, so all of it counts. Of a stable stream only what follows
// its first reading counts, and so of one that an earlier canary of the revision knew, or
// that may be older than the canary: until the first sample it counted the end of that one.
func (l Ledger) read(s Sample, first bool) (streams map[string]Reading, candidate, stable Counters, local int64) {
	streams = make(map[string]Reading, len(s.Streams))
	candidate, stable = Counters{}, Counters{}
	for _, stream := range s.Streams {
		before, known := l.Streams[stream.ID]
		if first && (known || l.Continues) || !known && stream.Revision != s.Candidate {
			before = Reading{Counts: stream.Counts, Local: stream.Local}
		}
		if known && stream.Monotonic && stream.decreased(before.Counts) {
			streams[stream.ID] = before
			continue
		}
		sum := stable
		if stream.Revision == s.Candidate {
			sum = candidate
		}
		for check, counts := range stream.Counts {
			sum[check] = sum[check].Plus(increase(before.Counts[check], counts))
		}
		local += max(stream.Local-before.Local, 0)
		streams[stream.ID] = stream.reading()
	}
	l.keepMissing(streams)
	return streams, candidate, stable, local
}

// keepMissing adds the last readings of streams that a sample lacks, while there is
// room; those that were missed the least come first.
func (l Ledger) keepMissing(streams map[string]Reading) {
	var missing []string
	for id := range l.Streams {
		if _, ok := streams[id]; !ok && l.Streams[id].Missed < maxMissed {
			missing = append(missing, id)
		}
	}
	slices.SortFunc(missing, func(a, b string) int {
		return cmp.Or(cmp.Compare(l.Streams[a].Missed, l.Streams[b].Missed), strings.Compare(a, b))
	})
	for _, id := range missing[:min(len(missing), max(maxStreams-len(streams), 0))] {
		reading := l.Streams[id]
		reading.Missed++
		streams[id] = reading
	}
}

// atStep has the step begin with what is counted now.
func (l Ledger) atStep() Ledger {
	l.CandidateAtStep, l.LocalAtStep = maps.Clone(l.Candidate), l.Local
	l.Blocks = l.Blocks.atStep()
	return l
}

// beginStep starts a step. What was recent is not compared with it any more: before the
// step the revisions had other shares of the traffic.
func (l Ledger) beginStep() Ledger {
	l.RecentCandidate, l.RecentStable = nil, nil
	return l.atStep()
}

// groupedBy returns a ledger with blocks if the policy groups events by time. Events
// that were counted before are in no block.
func (l Ledger) groupedBy(p Policy) Ledger {
	switch {
	case p.Block == 0:
		l.Blocks = nil
	case l.Blocks == nil:
		l.Blocks = &TimeBlocks{}
	}
	return l
}

// discard forgets what was counted for a check.
func (l Ledger) discard(check Check) Ledger {
	l.Candidate, l.Stable, l.CandidateAtStep = l.Candidate.without(check), l.Stable.without(check), l.CandidateAtStep.without(check)
	l.RecentCandidate, l.RecentStable = l.RecentCandidate.without(check), l.RecentStable.without(check)
	l.Blocks = l.Blocks.discard(check)
	return l
}

// requestsInStep is how many events of a check the candidate has had since the step began.
func (l Ledger) requestsInStep(check Check) int64 {
	return increase(l.CandidateAtStep[check], l.Candidate[check]).Total
}

// MeasuredWeight is the share of the step's requests that the candidate got; ok is
// false where there were none.
func (l Ledger) MeasuredWeight() (weight float64, ok bool) {
	candidate := float64(l.requestsInStep(ErrorRate))
	all := candidate + float64(l.Local-l.LocalAtStep)
	if all <= 0 {
		return 0, false
	}
	return candidate / all, true
}

// countedTime is how much of the time between two readings of the clock counts: at most
// two intervals, so that neither a clock that jumps nor an operator that was down passes
// a step.
func countedTime(from, to time.Time, interval time.Duration) time.Duration {
	if from.IsZero() {
		return 0
	}
	return min(max(to.Sub(from), 0), 2*interval)
}
