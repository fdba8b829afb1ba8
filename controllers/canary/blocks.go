// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"maps"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// TimeBlocks are a candidate's events, grouped by observed time. Methods return other
// blocks and leave the receiver as it was; nil groups nothing.
//
//	samples  . . x . . . . . . x x . . . . . .      x has bad events
//	blocks  [x = 1/6    ][x = 2/6    ][ open
//
// A block consists of whole samples. It begins with the first events after the previous
// one, and is complete with the sample at which the time between its samples adds up to
// its length. So only samples complete a block: neither unobserved time, nor a clock, nor
// a restart does. Events are in the block that is open when they are counted, late ones
// too.
//
// A block over the limit in which the stable revision was no better is left out. It would
// only have added evidence, so that costs no false rollback; a good block counts whatever
// the stable revision did.
type TimeBlocks struct {
	// Open are the events of the open block, Stable those of the stable revision in it,
	// and OpenFor how long it has been observed.
	Open, Stable Counters
	OpenFor      time.Duration
	// Complete are the blocks that count since the canary began, by check. A block without
	// events of a check does not count for it.
	Complete map[Check]analysis.Blocks
	// AtStep is how many of them were complete as the step began.
	AtStep map[Check]int64
}

// add puts the events of a sample into the open block, and completes it if it was
// observed for long enough.
func (b *TimeBlocks) add(candidate, stable Counters, observed time.Duration, p Policy) *TimeBlocks {
	if b == nil {
		return nil
	}
	next := *b
	next.Open = b.Open.plus(candidate)
	if !next.isOpen() {
		next.Open, next.OpenFor = nil, 0
		return &next
	}
	next.Stable = b.Stable.plus(stable)
	next.OpenFor += observed
	if next.OpenFor < p.Block {
		return &next
	}
	complete := maps.Clone(b.Complete)
	if complete == nil {
		complete = map[Check]analysis.Blocks{}
	}
	for check, counts := range next.Open {
		limit, candidate := p.Limits[check], proportion(counts)
		if candidate <= limit || !stableNoBetter(proportion(next.Stable[check]), candidate, limit) {
			complete[check] = complete[check].With(counts)
		}
	}
	next.Complete, next.Open, next.Stable, next.OpenFor = complete, nil, nil, 0
	return &next
}

// isOpen reports whether there are events that are in no complete block.
func (b *TimeBlocks) isOpen() bool {
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
func (b *TimeBlocks) of(check Check) analysis.Blocks {
	if b == nil {
		return analysis.Blocks{}
	}
	return b.Complete[check]
}

// inStep is how many blocks of a check were completed since the step began.
func (b *TimeBlocks) inStep(check Check) int64 {
	if b == nil {
		return 0
	}
	return b.Complete[check].Count - b.AtStep[check]
}

// atStep has the step begin with the blocks that are complete now.
func (b *TimeBlocks) atStep() *TimeBlocks {
	if b == nil {
		return nil
	}
	next := *b
	next.AtStep = map[Check]int64{}
	for check, blocks := range b.Complete {
		next.AtStep[check] = blocks.Count
	}
	return &next
}

// outsideStep excludes from the step the blocks that were completed since before.
func (b *TimeBlocks) outsideStep(before *TimeBlocks) *TimeBlocks {
	if b == nil {
		return nil
	}
	next := *b
	next.AtStep = maps.Clone(b.AtStep)
	for check, blocks := range b.Complete {
		if completed := blocks.Count - before.of(check).Count; completed > 0 {
			if next.AtStep == nil {
				next.AtStep = map[Check]int64{}
			}
			next.AtStep[check] += completed
		}
	}
	return &next
}

// discard forgets a check.
func (b *TimeBlocks) discard(check Check) *TimeBlocks {
	if b == nil {
		return nil
	}
	next := *b
	next.Open, next.Stable = b.Open.without(check), b.Stable.without(check)
	next.Complete, next.AtStep = maps.Clone(b.Complete), maps.Clone(b.AtStep)
	delete(next.Complete, check)
	delete(next.AtStep, check)
	return &next
}
