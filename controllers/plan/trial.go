// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Trial is how far the canary of a revision got, and the evidence that was
// gathered. It is all that the next look needs, besides what it sees.
type Trial struct {
	// Step that is under way, counted from 1; 0 before the first, and one more than
	// there are when all passed.
	Step int `json:"step"`
	// StepStartedAt is when the step began; for people.
	StepStartedAt time.Time `json:"stepStartedAt,omitzero"`
	// LookedAt is the last look, SampledAt the last sample.
	LookedAt  time.Time `json:"lookedAt,omitzero"`
	SampledAt time.Time `json:"sampledAt,omitzero"`
	// Elapsed of the step, and Observed, in which there was evidence. Both are sums
	// of gaps between looks, of which no more than two intervals count: neither a
	// clock that jumps nor an operator that was down passes a step.
	Elapsed  time.Duration `json:"elapsed,omitempty"`
	Observed time.Duration `json:"observed,omitempty"`
	// Calm is for how long nothing was in trouble that both revisions depend on.
	Calm time.Duration `json:"calm,omitempty"`
	// Candidate and Stable are all events since the trial began.
	Candidate canary.Counters `json:"candidate,omitempty"`
	Stable    canary.Counters `json:"stable,omitempty"`
	// Before are the candidate's events before the step, and KeptBefore the requests
	// that stable pods had kept by then.
	Before     canary.Counters `json:"before,omitempty"`
	Kept       int64           `json:"kept,omitempty"`
	KeptBefore int64           `json:"keptBefore,omitempty"`
	// Blocks of the candidate's events, where the policy groups them by time; nil
	// where it does not.
	Blocks *TimeBlocks `json:"blocks,omitempty"`
	// RecentCandidate and RecentStable are the events of the last samples; older
	// ones fade.
	RecentCandidate Fading `json:"recentCandidate,omitempty"`
	RecentStable    Fading `json:"recentStable,omitempty"`
	// Origin of all that is counted, "" before the first sample.
	Origin string `json:"origin,omitempty"`
	// Streams are what is already counted of each stream.
	Streams map[string]Counted `json:"streams,omitempty"`
	// UnavailableFor is how long the candidate has been unavailable since it was
	// available.
	UnavailableFor time.Duration `json:"unavailableFor,omitempty"`
	// DoubtedAt is when a check of the cache was first over its limit and nobody knew
	// whether that is the candidate's trouble or the cache's.
	DoubtedAt time.Time `json:"doubtedAt,omitzero"`
	// Inconclusive says that the step's deadline passed, and the canary is paused
	// for it.
	Inconclusive bool `json:"inconclusive,omitempty"`
	// Resumed says that the annotation to resume was followed. Until it is set anew
	// it does not end another pause for too little evidence.
	Resumed bool `json:"resumed,omitempty"`
	// ByHand says that a person promoted the candidate, whatever the verdict.
	ByHand bool `json:"byHand,omitempty"`
	// LoadTest is the result of the load test, nil before it ended.
	LoadTest *LoadTestResult `json:"loadTest,omitempty"`
	// Policy that the last look judged by.
	Policy Policy `json:"policy"`
}

// LoadTestResult is what the load test found.
type LoadTestResult struct {
	Passed bool `json:"passed"`
	// Report is the load tester's own, in JSON.
	Report string `json:"report,omitempty"`
}

// Counted is what a trial has already counted of a stream.
type Counted struct {
	Counts canary.Counters `json:"counts"`
	Kept   int64           `json:"kept,omitempty"`
	// Missed is in how many samples in a row the stream was not seen.
	Missed int `json:"missed,omitempty"`
}

// Fading are events of which older ones count for less and less.
type Fading map[canary.Check]FadingCounts

// FadingCounts are weights of events.
type FadingCounts struct {
	Bad   float64 `json:"bad"`
	Total float64 `json:"total"`
}

// share of the events that were bad.
func (c FadingCounts) share() float64 {
	if c.Total <= 0 {
		return 0
	}
	return c.Bad / c.Total
}

const (
	// fade is what is left of an event's weight after another sample.
	fade = 0.7
	// mostMissed is after how many samples a stream that is not seen any more is
	// forgotten: a pod that is only not reached comes back sooner.
	mostMissed = 100
	// mostStreams keeps a record under the 256 KiB that all annotations of an object
	// may have; a stream takes about 270 bytes.
	mostStreams = 700
)

// look moves the trial to a look at a time, and returns how long after the last one
// that is. A look that comes sooner than an interval and brings no new sample is
// none: the record would change with each, and each change calls for a look.
func (t *Trial) look(now time.Time, sampled bool, interval time.Duration) time.Duration {
	if !t.LookedAt.IsZero() && !sampled && now.Sub(t.LookedAt).Abs() < interval {
		return 0
	}
	gap := passed(t.LookedAt, now, interval)
	t.LookedAt = now.UTC()
	return gap
}

// passed is how much time between two readings of the clock counts.
func passed(from, to time.Time, interval time.Duration) time.Duration {
	if from.IsZero() {
		return 0
	}
	return min(max(to.Sub(from), 0), 2*interval)
}

// judgeBy has the trial judged by a policy from now on. What was counted before
// blocks were asked for is in none of them.
func (t *Trial) judgeBy(p Policy) {
	t.Policy = p
	switch {
	case p.Block == 0:
		t.Blocks = nil
	case t.Blocks == nil:
		t.Blocks = &TimeBlocks{}
	}
}

// isNew tells whether a sample was not looked at yet.
func (t *Trial) isNew(e canary.Evidence) bool { return !e.At.IsZero() && !e.At.Equal(t.SampledAt) }

// follow turns to the origin of a sample. Evidence of another one is about the same
// events, so it takes the place of what was counted and is not added to it. What
// happened until now is not known in its terms: its streams count from here.
func (t *Trial) follow(e canary.Evidence) (another bool) {
	if !t.isNew(e) || e.Origin == t.Origin {
		return false
	}
	another, t.Origin = t.Origin != "", e.Origin
	if !another {
		return false
	}
	t.Candidate, t.Stable, t.Before, t.RecentCandidate, t.RecentStable = nil, nil, nil, nil, nil
	t.Kept, t.KeptBefore = 0, 0
	if t.Blocks != nil {
		t.Blocks = &TimeBlocks{}
	}
	t.Streams = map[string]Counted{}
	for _, stream := range e.Streams {
		t.Streams[stream.ID] = Counted{Counts: maps.Clone(stream.Counts), Kept: stream.Local}
	}
	return true
}

// absorb counts what a sample has that was not counted yet, and returns how long
// after the last one it was taken. Looks come between samples too, so it is not
// their time that was observed. Of what was counted while something that both
// revisions depend on was in trouble nothing is kept but how far it is counted.
func (t *Trial) absorb(e canary.Evidence, candidate string, struck bool, interval time.Duration) (observed time.Duration) {
	if !t.isNew(e) {
		return 0
	}
	observed = passed(t.SampledAt, e.At, interval)
	first := t.SampledAt.IsZero()
	t.SampledAt = e.At.UTC()
	candidateNow, stableNow, kept := t.count(e, candidate, first)
	if struck {
		return 0
	}
	t.Candidate, t.Stable = t.Candidate.Plus(candidateNow), t.Stable.Plus(stableNow)
	t.RecentCandidate, t.RecentStable = t.RecentCandidate.plus(candidateNow), t.RecentStable.plus(stableNow)
	t.Kept += kept
	if t.Blocks != nil {
		t.Blocks.add(candidateNow, stableNow, observed, t.Policy)
	}
	if t.Elapsed < e.Lag {
		t.Before, t.KeptBefore = maps.Clone(t.Candidate), t.Kept // it happened before the step
		t.Blocks.begin()
		return 0
	}
	return observed
}

// overshadowed tells whether something was in trouble when the events of a sample
// happened, which may have been some time ago.
func (t *Trial) overshadowed(now bool, gap, lag time.Duration) bool {
	if t.Calm += gap; now {
		t.Calm = 0
	}
	return now || lag > 0 && t.Calm <= lag
}

// count moves on how far each stream is counted, and returns what is new. A
// candidate's stream began after the trial did, so all of it counts; of a stable
// one only what comes after it was first seen, and so of one that an earlier trial
// knew: until the first sample it went on with the end of that.
func (t *Trial) count(e canary.Evidence, candidate string, first bool) (candidateNow, stableNow canary.Counters, kept int64) {
	streams := make(map[string]Counted, len(e.Streams))
	candidateNow, stableNow = canary.Counters{}, canary.Counters{}
	for _, stream := range e.Streams {
		before, known := t.Streams[stream.ID]
		if known && first || !known && stream.Revision != candidate {
			before = Counted{Counts: stream.Counts, Kept: stream.Local}
		}
		if known && stream.Monotonic && stream.Fell(before.Counts) {
			streams[stream.ID] = before
			continue
		}
		now := stableNow
		if stream.Revision == candidate {
			now = candidateNow
		}
		for check, counts := range stream.Counts {
			now[check] = now[check].Plus(canary.Since(before.Counts[check], counts))
		}
		kept += max(stream.Local-before.Kept, 0)
		streams[stream.ID] = Counted{Counts: maps.Clone(stream.Counts), Kept: stream.Local}
	}
	t.remember(streams)
	t.Streams = streams
	return candidateNow, stableNow, kept
}

// remember adds the streams that were not seen this time, as long as there is
// room; those that were missed the least come first.
func (t *Trial) remember(streams map[string]Counted) {
	var unseen []string
	for id := range t.Streams {
		if _, seen := streams[id]; !seen && t.Streams[id].Missed < mostMissed {
			unseen = append(unseen, id)
		}
	}
	slices.SortFunc(unseen, func(a, b string) int {
		return cmp.Or(cmp.Compare(t.Streams[a].Missed, t.Streams[b].Missed), strings.Compare(a, b))
	})
	for _, id := range unseen[:min(len(unseen), max(mostStreams-len(streams), 0))] {
		missed := t.Streams[id]
		missed.Missed++
		streams[id] = missed
	}
}

func (f Fading) plus(more canary.Counters) Fading {
	faded := Fading{}
	for check, counts := range f {
		faded[check] = FadingCounts{Bad: fade * counts.Bad, Total: fade * counts.Total}
	}
	for check, counts := range more {
		sum := faded[check]
		faded[check] = FadingCounts{Bad: sum.Bad + float64(counts.Bad), Total: sum.Total + float64(counts.Total)}
	}
	return faded
}

// begin starts a step. What was recent before is not compared any more: the
// stable revision had traffic when the candidate had none.
func (t *Trial) begin(step int, now time.Time) {
	t.Step, t.StepStartedAt = step, now.UTC().Truncate(time.Second)
	t.Elapsed, t.Observed, t.UnavailableFor, t.Inconclusive = 0, 0, 0, false
	t.Before, t.KeptBefore = maps.Clone(t.Candidate), t.Kept
	t.RecentCandidate, t.RecentStable = nil, nil
	t.Blocks.begin()
}

// strike forgets what a check found: it was found while the stable revision was
// no better.
func (t *Trial) strike(check canary.Check) {
	for _, counts := range []canary.Counters{t.Candidate, t.Stable, t.Before} {
		delete(counts, check)
	}
	delete(t.RecentCandidate, check)
	delete(t.RecentStable, check)
	t.Blocks.strike(check)
}

// inStep are the candidate's events of the step under way.
func (t *Trial) inStep(check canary.Check) analysis.Counts {
	return canary.Since(t.Before[check], t.Candidate[check])
}

// measuredWeight is the share of the step's requests that the candidate got; ok
// is false where there were none.
func (t *Trial) measuredWeight() (weight float64, ok bool) {
	candidate := float64(t.inStep(canary.ErrorRate).Total)
	all := candidate + float64(t.Kept-t.KeptBefore)
	if all <= 0 {
		return 0, false
	}
	return candidate / all, true
}

// clone is a copy that shares nothing that is changed.
func (t *Trial) clone() *Trial {
	c := *t
	c.Candidate, c.Stable, c.Before = maps.Clone(t.Candidate), maps.Clone(t.Stable), maps.Clone(t.Before)
	c.RecentCandidate, c.RecentStable = maps.Clone(t.RecentCandidate), maps.Clone(t.RecentStable)
	c.Streams = maps.Clone(t.Streams)
	c.Blocks = t.Blocks.clone()
	return &c
}
