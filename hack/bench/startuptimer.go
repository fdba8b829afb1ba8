// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// startupTimer adds up the time in which at least one pod was starting.
type startupTimer struct {
	starting map[string]bool
	since    time.Time
	elapsed  time.Duration
}

// record takes note of a pod at a time. Times do not go back.
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

// total is the sum at a time that is not before the last one seen.
func (s *startupTimer) total(at time.Time) time.Duration {
	if len(s.starting) == 0 {
		return s.elapsed
	}
	return s.elapsed + at.Sub(s.since)
}
