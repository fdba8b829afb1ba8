// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// startupTimer measures the time during which at least one pod is starting.
type startupTimer struct {
	starting map[string]bool
	since    time.Time
	elapsed  time.Duration
}

// record records the state of a pod at a time, which must not decrease.
func (s *startupTimer) record(pod string, starting bool, at time.Time) {
	if s.starting == nil {
		s.starting = map[string]bool{}
	}
	s.elapsed, s.since = s.total(at), at
	if starting {
		s.starting[pod] = true
	} else {
		delete(s.starting, pod)
	}
}

// total is the time measured until a time that is not before the last recorded one.
func (s *startupTimer) total(at time.Time) time.Duration {
	if len(s.starting) == 0 {
		return s.elapsed
	}
	return s.elapsed + at.Sub(s.since)
}
