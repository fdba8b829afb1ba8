// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"maps"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// Evidence is a sample of the counters of a canary's revisions.
type Evidence struct {
	// At is when the sample was taken; zero while there is none.
	At time.Time
	// Lag is how far back the events may have happened that a sample is the first to
	// include; zero where they are included at once.
	Lag time.Duration
	// Origin identifies the source and what it counts as bad. Counts of different origins
	// are about the same events and must not be added up.
	Origin string
	// Streams are the sets of counters that were read.
	Streams []Stream
	// Missing is why a part of the evidence is missing; "" if none is. The text is the
	// same from sample to sample.
	Missing string
}

// Stream is one lifetime of one set of counters, which begin at zero and only grow. A
// process that restarts begins another stream.
type Stream struct {
	// ID is unique among all streams, for all time.
	ID string
	// Revision that the events are about, which need not be the revision of the pod that
	// counted them.
	Revision string
	// Counts since the stream began, by check. A check that the stream does not count is
	// absent.
	Counts Counters
	// Local is how many requests a stable pod answered by itself while a candidate took a
	// share.
	Local int64
	// Monotonic counters never restart at zero: where one is less than it was, the
	// reading is wrong.
	Monotonic bool
}

// Counters are events by check.
type Counters map[Check]analysis.Counts

// decreased reports whether a counter is less than it was.
func (s Stream) decreased(before Counters) bool {
	for check, counts := range s.Counts {
		if counts.Total < before[check].Total || counts.Bad < before[check].Bad {
			return true
		}
	}
	return false
}

// increase is what happened between two readings of a counter. One that is less than
// before was reset in between, so all of it is new.
func increase(before, now analysis.Counts) analysis.Counts {
	if now.Total < before.Total || now.Bad < before.Bad {
		return now
	}
	return analysis.Counts{Bad: now.Bad - before.Bad, Total: now.Total - before.Total}
}

// plus returns the sum of both.
func (c Counters) plus(more Counters) Counters {
	sum := maps.Clone(c)
	if sum == nil {
		sum = Counters{}
	}
	for check, counts := range more {
		sum[check] = sum[check].Plus(counts)
	}
	return sum
}

// without returns the counters of all other checks.
func (c Counters) without(check Check) Counters {
	rest := maps.Clone(c)
	delete(rest, check)
	return rest
}

// proportion of the events that were bad, 0 where there are none.
func proportion(c analysis.Counts) float64 {
	return WeightedCounts{Bad: float64(c.Bad), Total: float64(c.Total)}.proportion()
}

// Decaying are events of which older ones weigh less.
type Decaying map[Check]WeightedCounts

// WeightedCounts are sums of the weights of events.
type WeightedCounts struct {
	Bad   float64 `json:"bad"`
	Total float64 `json:"total"`
}

// decay is what remains of an event's weight after another sample.
const decay = 0.7

// plus returns the decayed sum with the events of another sample.
func (d Decaying) plus(more Counters) Decaying {
	sum := Decaying{}
	for check, counts := range d {
		sum[check] = WeightedCounts{Bad: decay * counts.Bad, Total: decay * counts.Total}
	}
	for check, counts := range more {
		old := sum[check]
		sum[check] = WeightedCounts{Bad: old.Bad + float64(counts.Bad), Total: old.Total + float64(counts.Total)}
	}
	return sum
}

// without returns the events of all other checks.
func (d Decaying) without(check Check) Decaying {
	rest := maps.Clone(d)
	delete(rest, check)
	return rest
}

// proportion of the events that were bad, 0 where there are none.
func (c WeightedCounts) proportion() float64 {
	if c.Total <= 0 {
		return 0
	}
	return c.Bad / c.Total
}
