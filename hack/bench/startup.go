// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// startup adds up the time in which at least one pod was starting.
type startup struct {
	starting map[string]bool
	since    time.Time
	sum      time.Duration
}

// see takes note of a pod at a time. Times do not go back.
func (s *startup) see(pod string, starting bool, at time.Time) {
	if s.starting == nil {
		s.starting = map[string]bool{}
	}
	s.sum, s.since = s.until(at), at
	if starting {
		s.starting[pod] = true
	} else {
		delete(s.starting, pod)
	}
}

// until is the sum at a time that is not before the last one seen.
func (s *startup) until(at time.Time) time.Duration {
	if len(s.starting) == 0 {
		return s.sum
	}
	return s.sum + at.Sub(s.since)
}
