// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

// Counts are numbers of events and of bad events among them. Counts of disjoint sets of
// events can be added in any order.
type Counts struct {
	Bad   int64 `json:"bad"`
	Total int64 `json:"total"`
}

// Plus returns the counts of both sets of events.
func (c Counts) Plus(d Counts) Counts {
	return Counts{Bad: c.Bad + d.Bad, Total: c.Total + d.Total}
}

// clamped returns valid counts: no negative ones, and no more bad events than events.
func (c Counts) clamped() Counts {
	total := max(c.Total, 0)
	return Counts{Bad: min(max(c.Bad, 0), total), Total: total}
}

// proportion returns the proportion of bad events, 0 if there are no events.
func (c Counts) proportion() float64 {
	if c.Total <= 0 {
		return 0
	}
	return float64(c.Bad) / float64(c.Total)
}
