// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

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
