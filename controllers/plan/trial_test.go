// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"
)

func TestLookThatBringsNothingIsNone(t *testing.T) {
	const interval = time.Second
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		after   time.Duration
		sampled bool
		gap     time.Duration
		looked  bool
	}{
		"soon, without a sample":              {after: interval / 2},
		"soon, with a sample":                 {after: interval / 2, sampled: true, gap: interval / 2, looked: true},
		"after an interval, without a sample": {after: interval, gap: interval, looked: true},
		"after an hour":                       {after: time.Hour, gap: 2 * interval, looked: true},
		"after the clock went back":           {after: -time.Hour, looked: true},
	} {
		t.Run(name, func(t *testing.T) {
			trial := &Trial{LookedAt: start}
			now := start.Add(c.after)
			if gap := trial.look(now, c.sampled, interval); gap != c.gap {
				t.Errorf("the gap is %s, want %s", gap, c.gap)
			}
			if looked := trial.LookedAt.Equal(now); looked != c.looked {
				t.Errorf("looked: %t, want %t", looked, c.looked)
			}
		})
	}
}

// A look by the clock may come just before each sample. It must not take the time
// away from the sample, or a step would never be over.
func TestLooksBetweenSamplesTakeNoTimeAway(t *testing.T) {
	const interval = 10 * time.Second
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	trial := &Trial{}
	var observed time.Duration
	for n := range 7 {
		at := start.Add(time.Duration(n) * interval)
		trial.look(at, false, interval)
		observed += trial.absorb(Evidence{}, "b", false, interval)
		trial.look(at, true, interval)
		observed += trial.absorb(Evidence{At: at}, "b", false, interval)
	}
	if observed != 6*interval {
		t.Errorf("%s were observed between seven samples", observed)
	}
}
