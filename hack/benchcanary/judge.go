// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"sort"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// never is the time of a rollback that does not happen.
const never = math.MaxInt64

// outcome is the number of events after which each method rolls a release back.
type outcome struct {
	// verdict is the test of package analysis, evaluated after every event.
	verdict int64
	// once and fiveTimes compare the error rate of each minute with the limit, and roll
	// back after the first and the fifth minute in which a check exceeds it.
	once, fiveTimes int64
}

// boundary is an equivalent, faster form of a test. Each bad event adds evidence and each
// good one removes some, so the b-th bad event is a breach unless it occurs after the
// line[b]-th event.
type boundary struct {
	test      analysis.Test
	threshold float64
	// line is extended on demand.
	line []int64
}

func newBoundary(t analysis.Test) *boundary {
	return &boundary{test: t, threshold: -math.Log(t.Alpha), line: []int64{0}}
}

// breached reports whether a bad event, counted from 1, is a breach if it is the n-th
// event.
func (b *boundary) breached(bad int, n int64) bool {
	for len(b.line) <= bad {
		b.line = append(b.line, b.lastBreach(int64(len(b.line)), b.line[len(b.line)-1]))
	}
	return n <= b.line[bad]
}

// lastBreach returns the largest number of events of which so many bad ones are a breach.
// It is at least from, the number for one bad event less.
func (b *boundary) lastBreach(bad, from int64) int64 {
	last, step := max(bad-1, from), int64(1)
	for b.breach(bad, last+step) {
		last += step
		step *= 2
	}
	return last + int64(sort.Search(int(step-1), func(i int) bool { return !b.breach(bad, last+1+int64(i)) }))
}

func (b *boundary) breach(bad, total int64) bool {
	return b.test.LogEvidence(analysis.Counts{Bad: bad, Total: total}) >= b.threshold
}

// judge simulates releases in one world. It must be used by one goroutine only.
type judge struct {
	world world
	// boundaries are those of the checks.
	boundaries []*boundary
	// over are the minutes in which a check exceeded its limit.
	over []bool
}

func newJudge(w world, alpha float64) *judge {
	c := &judge{world: w, over: make([]bool, w.horizon/perMinute)}
	for _, ch := range w.checks {
		c.boundaries = append(c.boundaries, newBoundary(analysis.Test{Limit: ch.limit, Alpha: alpha}))
	}
	return c
}

// release simulates one release.
func (c *judge) release(r *rand.Rand) outcome {
	clear(c.over)
	o := outcome{verdict: never}
	for i := range c.world.checks {
		o.verdict = min(o.verdict, c.runCheck(i, r))
	}
	o.once, o.fiveTimes = c.endOfMinuteOver(1), c.endOfMinuteOver(5)
	return o
}

// runCheck simulates one check, records the minutes in which it exceeds the limit and
// returns the time of the breach. It stops when the outcome is final.
func (c *judge) runCheck(i int, r *rand.Rand) int64 {
	limit, line := c.world.checks[i].limit, c.boundaries[i]
	allowed := int(math.Floor(limit*perMinute + 1e-9))
	next := c.world.stream(c.world.checks[i], r)
	breach := int64(never)
	bad, inMinute, overs := 0, 0, 0
	last := int64(-1)
	for n := next(); n <= c.world.horizon; n = next() {
		bad++
		if breach == never && line.breached(bad, n) {
			breach = n
		}
		minute := (n - 1) / perMinute
		if minute != last {
			last, inMinute = minute, 0
		}
		inMinute++
		if inMinute == allowed+1 {
			c.over[minute] = true
			overs++
		}
		if breach != never && overs >= 5 {
			break
		}
	}
	return breach
}

// endOfMinuteOver returns the end of the k-th minute in which a check exceeded its limit.
func (c *judge) endOfMinuteOver(k int) int64 {
	for i, over := range c.over {
		if over {
			k--
		}
		if k == 0 {
			return int64(i+1) * perMinute
		}
	}
	return never
}

// judgeBlocks simulates one release with one check and returns the time of the breach by
// the test that takes blocks of so many events as single observations.
func judgeBlocks(w world, t analysis.Test, length int64, r *rand.Rand) int64 {
	next := w.stream(check{limit: t.Limit}, r)
	var blocks analysis.Blocks
	n := next()
	for end := length; end <= w.horizon; end += length {
		block := analysis.Counts{Total: length}
		for ; n <= end; n = next() {
			block.Bad++
		}
		blocks = blocks.With(block)
		// A block without bad events never adds evidence.
		if block.Bad > 0 && t.JudgeBlocks(blocks).Breach {
			return end
		}
	}
	return never
}
