// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"slices"
	"time"
)

// Check names what a candidate is judged by: a kind of event, and when one is bad.
type Check string

// The checks, with their names in the API, in metrics and in records.
const (
	ErrorRate      Check = "errorRate"
	LatencyP95     Check = "latencyP95"
	LatencyP99     Check = "latencyP99"
	CacheHitRate   Check = "cacheHitRate"
	MissLatencyP95 Check = "missLatencyP95"
)

// Threshold is how a user states the limit of a check.
type Threshold int

const (
	// LargestShare of bad events, such as an error rate of at most 0.1 %.
	LargestShare Threshold = iota
	// SmallestShare of good events, such as a hit rate of at least 80 %.
	SmallestShare
	// Latency of a percentile. The percentile fixes the limit: a P95 of at most 100 ms
	// means that at most 5 % of the events take longer than 100 ms.
	Latency
)

// Events are what a check counts. They determine how many of them a step needs.
type Events int

const (
	// Requests for flags: a step needs spec.canary.minimumRequests of them.
	Requests Events = iota
	// CacheLookups are rare, because requests are answered from memory: a canary needs
	// one.
	CacheLookups
	// CacheMisses need not occur: that nothing missed the cache is as good as a miss that
	// was filled fast.
	CacheMisses
)

// String describes one of the events.
func (e Events) String() string {
	return [...]string{Requests: "a request", CacheLookups: "a Redis lookup", CacheMisses: "a Redis lookup that missed"}[e]
}

// Definition is a check with all that its name stands for.
type Definition struct {
	Check Check
	// Events that the check counts.
	Events Events
	// BadIf is when an event is bad; where Threshold is Latency, the duration follows.
	BadIf string
	// Threshold is how a user states the limit.
	Threshold Threshold
	// Limit is the largest proportion of bad events by default.
	Limit float64
	// Slow is how long an event may take by default, where Threshold is Latency.
	Slow time.Duration
}

// checks is the table that everything else about checks derives from, or is tested
// against: the fields and rules of the API, the sources of evidence, the simulation and
// the documentation. The order is that of the status.
var checks = []Definition{
	{Check: ErrorRate, Events: Requests, BadIf: "it failed", Threshold: LargestShare, Limit: 0.001},
	{Check: LatencyP95, Events: Requests, BadIf: "it took longer than", Threshold: Latency, Limit: 0.05, Slow: 100 * time.Millisecond},
	{Check: LatencyP99, Events: Requests, BadIf: "it took longer than", Threshold: Latency, Limit: 0.01, Slow: 300 * time.Millisecond},
	{Check: CacheHitRate, Events: CacheLookups, BadIf: "it missed", Threshold: SmallestShare, Limit: 0.2},
	{Check: MissLatencyP95, Events: CacheMisses, BadIf: "filling the cache took longer than", Threshold: Latency, Limit: 0.05, Slow: 300 * time.Millisecond},
}

// Checks returns the table of all checks, in the order of the status.
func Checks() []Definition { return slices.Clone(checks) }

// Names returns the names of all checks, in the order of the status.
func Names() []Check {
	names := make([]Check, len(checks))
	for i, c := range checks {
		names[i] = c.Check
	}
	return names
}

// DefaultLimits returns the largest proportion of bad events of every check.
func DefaultLimits() map[Check]float64 {
	limits := make(map[Check]float64, len(checks))
	for _, c := range checks {
		limits[c.Check] = c.Limit
	}
	return limits
}

// events that a check counts.
func (c Check) events() Events {
	for _, d := range checks {
		if d.Check == c {
			return d.Events
		}
	}
	return Requests
}
