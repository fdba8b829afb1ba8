// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// blockBetCount is the number of bets on blocks. Their odds ratios are much larger than those
// of bets on events, because the proportion of a block is rarely close to 1: against a
// limit of 0.1 % the best bet on a steady 0.2 % has an odds ratio of about a thousand.
const blockBetCount = 24

// Blocks are periods of time. Each is one observation, the proportion of its events that
// were bad, whatever the number of events. They are for events that occur in bursts: one
// burst is one observation.
//
// The hypothesis is that the proportion of a block has a mean of at most the limit, given
// the previous blocks. That holds if bursts are much shorter than blocks. All blocks have
// the same weight whatever their traffic, so the mean is over time, not over events.
//
// The zero value has no blocks. A result depends on the sums only, so Blocks can be
// stored as JSON and continued later.
type Blocks struct {
	// Count of blocks that had events.
	Count int64 `json:"count"`
	// Sum of the proportions.
	Sum float64 `json:"sum"`
	// Over and Under are the logarithms of each bet's gains, before the limit is applied.
	Over  [blockBetCount]float64 `json:"over"`
	Under [blockBetCount]float64 `json:"under"`
}

// With returns the blocks and one more complete block with the given events. A block
// without events is ignored.
func (b Blocks) With(c Counts) Blocks {
	c = c.clamped()
	if c.Total == 0 {
		return b
	}
	x := c.proportion()
	b.Count++
	b.Sum += x
	for i := range blockBetCount {
		b.Over[i] += math.Log1p(x * blockBets[i].oddsLessOne)
		b.Under[i] += math.Log1p(x * inverseBlockBets[i].oddsLessOne)
	}
	return b
}

// JudgeBlocks is Judge for blocks. Observed is the mean of the blocks' proportions.
func (t Test) JudgeBlocks(b Blocks) Result {
	n := float64(max(b.Count, 0))
	above := wealth{bets: blockBets, logGains: b.Over[:], n: n}
	below := wealth{bets: inverseBlockBets, logGains: b.Under[:], n: n}
	return t.judge(above, below, b.mean())
}

// mean returns the mean proportion of the blocks, 0 if there are none.
func (b Blocks) mean() float64 {
	if b.Count <= 0 {
		return 0
	}
	return min(max(b.Sum/float64(b.Count), 0), 1)
}
