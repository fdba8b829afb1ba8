// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

// Check is what a candidate is judged by: a kind of event, and when one is bad.
type Check string

// The checks. Each is a proportion of bad events with a limit, also where a user
// speaks of a percentile: a P95 under 100 ms says that at most 5 % take longer.
const (
	// ErrorRate counts requests; one that failed is bad.
	ErrorRate Check = "errorRate"
	// CacheHitRate counts look-ups in Redis; one that did not hit is bad.
	CacheHitRate Check = "cacheHitRate"
	// LatencyP95 counts requests; one slower than the threshold is bad, and 5 % may be.
	LatencyP95 Check = "latencyP95"
	// LatencyP99 counts requests; one slower than the threshold is bad, and 1 % may be.
	LatencyP99 Check = "latencyP99"
	// MissLatencyP95 counts look-ups that missed; one slower than the threshold is
	// bad, and 5 % may be.
	MissLatencyP95 Check = "missLatencyP95"
)

// Counts are events, and those of them that were bad. Counts of disjoint sets of
// events add up, in any order.
type Counts struct {
	Bad   int64 `json:"bad"`
	Total int64 `json:"total"`
}

// Plus returns the counts of both sets of events.
func (c Counts) Plus(d Counts) Counts {
	return Counts{Bad: c.Bad + d.Bad, Total: c.Total + d.Total}
}

// sane returns counts that can be of events: none negative, no more bad ones
// than there are.
func (c Counts) sane() Counts {
	total := max(c.Total, 0)
	return Counts{Bad: min(max(c.Bad, 0), total), Total: total}
}

// proportion of bad events, 0 where there are none.
func (c Counts) proportion() float64 {
	if c.Total <= 0 {
		return 0
	}
	return float64(c.Bad) / float64(c.Total)
}
