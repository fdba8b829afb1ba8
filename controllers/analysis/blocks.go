// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// blockGrid is the number of bets on blocks. They reach to much larger odds ratios
// than those on events, because the proportion of a block never gets near 1: against a
// limit of 0.1 % the best bet on a steady 0.2 % has an odds ratio of about a thousand.
const blockGrid = 24

// Blocks are stretches of time, each of which counts once, as the proportion of
// its events that were bad, however many events there were. They are for events
// that come in bursts: one burst is one observation.
//
// The hypothesis becomes that the proportion of a block has a mean of at most the
// limit, given the blocks before it. That holds if bursts are shorter than
// blocks by far. Blocks weigh the same with much traffic and with little, so the
// proportion is one of time and not of events.
//
// The zero value has no blocks. The sums are all that a verdict needs, so
// Blocks may be stored (as JSON) and go on later.
type Blocks struct {
	// Count of blocks that had events.
	Count int64 `json:"count"`
	// Sum of their proportions.
	Sum float64 `json:"sum"`
	// Over and Under are the logarithms of what each bet gained, before the limit is
	// taken into account.
	Over  [blockGrid]float64 `json:"over"`
	Under [blockGrid]float64 `json:"under"`
}

// With returns the blocks and one more, which is complete and has the given events. A
// block without events says nothing and does not count.
func (b Blocks) With(c Counts) Blocks {
	c = c.sane()
	if c.Total == 0 {
		return b
	}
	x := c.proportion()
	b.Count++
	b.Sum += x
	for i := range blockGrid {
		b.Over[i] += math.Log1p(x * blockBets[i].oddsLessOne)
		b.Under[i] += math.Log1p(x * mirroredBlockBets[i].oddsLessOne)
	}
	return b
}

// JudgeBlocks judges blocks as Judge judges events. Observed is the mean of the
// blocks' proportions.
func (t Test) JudgeBlocks(b Blocks) Result {
	n := float64(max(b.Count, 0))
	over := game{bets: blockBets, gains: b.Over[:], n: n}
	under := game{bets: mirroredBlockBets, gains: b.Under[:], n: n}
	return t.judge(over, under, b.mean())
}

// mean proportion of the blocks, 0 where there are none.
func (b Blocks) mean() float64 {
	if b.Count <= 0 {
		return 0
	}
	return min(max(b.Sum/float64(b.Count), 0), 1)
}
