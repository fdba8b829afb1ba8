// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"maps"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// Evidence is a sample of what was counted about the revisions of a canary.
type Evidence struct {
	// At is when the sample was taken; zero while there is none.
	At time.Time
	// Lag is how long ago events may have happened that a sample is the first to have;
	// zero where they are known at once.
	Lag time.Duration
	// Origin tells evidence that can be added up from evidence that cannot: it is
	// another one where another source counts, or something else counts as bad.
	Origin string
	// Streams are the sets of counters that were read.
	Streams []Stream
	// Missing says, in words that stay the same from sample to sample, why a part
	// of the evidence could not be had; "" if all of it was.
	Missing string
}

// Stream is one life of one set of counters: they begin at zero and only grow. A
// process that restarts begins another stream.
type Stream struct {
	// ID tells the stream from all others, for all time.
	ID string
	// Revision that the events are about, which need not be the revision of the
	// pod that counted them.
	Revision string
	// Counts since the stream began, by check. A check that the stream does not
	// count is absent.
	Counts Counters
	// Local is how many requests a stable pod answered by itself although a
	// candidate took a share.
	Local int64
	// Monotonic counters never begin anew: where one fell, the reading is a mistake.
	Monotonic bool
}

// Counters are events by check.
type Counters map[Check]analysis.Counts

// Fell tells whether a counter is smaller than it was.
func (s Stream) Fell(before Counters) bool {
	for check, counts := range s.Counts {
		if counts.Total < before[check].Total || counts.Bad < before[check].Bad {
			return true
		}
	}
	return false
}

// Since is what happened between two readings of a counter. One that fell was
// reset in between, so all of it is new.
func Since(before, now analysis.Counts) analysis.Counts {
	if now.Total < before.Total || now.Bad < before.Bad {
		return now
	}
	return analysis.Counts{Bad: now.Bad - before.Bad, Total: now.Total - before.Total}
}

func (c Counters) Plus(more Counters) Counters {
	sum := maps.Clone(c)
	if sum == nil {
		sum = Counters{}
	}
	for check, counts := range more {
		sum[check] = sum[check].Plus(counts)
	}
	return sum
}
