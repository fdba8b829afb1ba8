// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

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
