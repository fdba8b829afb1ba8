// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// TimeBlocks are a candidate's events, grouped by the time that was observed.
//
//	samples  . . x . . . . . . x x . . . . . .      x has bad events
//	blocks  [x = 1/6    ][x = 2/6    ][ under way
//
// A block is whole samples. It begins with the first events after the one before,
// and is complete with the sample at which the gaps between its samples add up to
// its duration. So it takes samples to complete it: no time that passed
// unobserved, no clock and no restart does. Events of a sample are in the
// block that is under way when they are counted, also where they are late.
//
// A block over the limit in which the stable revision was no better is left out. All
// bets would have gained by it, so that costs no false rollback; a good one counts
// whatever the stable revision did.
type TimeBlocks struct {
	// Open are the events of the block under way, OpenFor how long it was observed.
	Open    canary.Counters `json:"open,omitempty"`
	OpenFor time.Duration   `json:"openFor,omitempty"`
	// Stable are the stable revision's events meanwhile.
	Stable canary.Counters `json:"stable,omitempty"`
	// Complete blocks since the trial began that count, by check. One without events
	// of a check is none of that check's.
	Complete map[canary.Check]analysis.Blocks `json:"complete,omitempty"`
	// Before is how many of them were complete before the step.
	Before map[canary.Check]int64 `json:"before,omitempty"`
}

// add puts the events of a sample into the block under way, and completes it if
// it was observed for long enough.
func (b *TimeBlocks) add(candidate, stable canary.Counters, observed time.Duration, p Policy) {
	b.Open = b.Open.Plus(candidate)
	if !b.underWay() {
		b.Open, b.OpenFor = nil, 0
		return
	}
	b.Stable = b.Stable.Plus(stable)
	b.OpenFor += observed
	if b.OpenFor < p.Block {
		return
	}
	if b.Complete == nil {
		b.Complete = map[canary.Check]analysis.Blocks{}
	}
	for check, counts := range b.Open {
		limit, share := p.Limits[check], shareOf(counts)
		if share <= limit || !noBetter(shareOf(b.Stable[check]), share, limit) {
			b.Complete[check] = b.Complete[check].With(counts)
		}
	}
	b.Open, b.Stable, b.OpenFor = nil, nil, 0
}

// underWay says that there are events which no complete block has.
func (b *TimeBlocks) underWay() bool {
	if b == nil {
		return false
	}
	for _, counts := range b.Open {
		if counts.Total > 0 {
			return true
		}
	}
	return false
}

// of are the complete blocks of a check.
func (b *TimeBlocks) of(check canary.Check) analysis.Blocks {
	if b == nil {
		return analysis.Blocks{}
	}
	return b.Complete[check]
}

// inStep is how many blocks of a check the step under way has completed.
func (b *TimeBlocks) inStep(check canary.Check) int64 {
	if b == nil {
		return 0
	}
	return b.Complete[check].Count - b.Before[check]
}

// begin starts a step.
func (b *TimeBlocks) begin() {
	if b == nil {
		return
	}
	b.Before = map[canary.Check]int64{}
	for check, blocks := range b.Complete {
		b.Before[check] = blocks.Count
	}
}

// strike forgets a check.
func (b *TimeBlocks) strike(check canary.Check) {
	if b == nil {
		return
	}
	delete(b.Open, check)
	delete(b.Stable, check)
	delete(b.Complete, check)
	delete(b.Before, check)
}

// clone is a copy that shares nothing that is changed.
func (b *TimeBlocks) clone() *TimeBlocks {
	if b == nil {
		return nil
	}
	return &TimeBlocks{
		Open: maps.Clone(b.Open), OpenFor: b.OpenFor, Stable: maps.Clone(b.Stable),
		Complete: maps.Clone(b.Complete), Before: maps.Clone(b.Before),
	}
}

// shareOf is the share of events that were bad.
func shareOf(c analysis.Counts) float64 {
	return FadingCounts{Bad: float64(c.Bad), Total: float64(c.Total)}.share()
}
