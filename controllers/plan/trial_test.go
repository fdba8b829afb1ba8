// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
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
		observed += trial.absorb(canary.Evidence{}, "b", false, interval)
		trial.look(at, true, interval)
		observed += trial.absorb(canary.Evidence{At: at}, "b", false, interval)
	}
	if observed != 6*interval {
		t.Errorf("%s were observed between seven samples", observed)
	}
}

// Pods of large fleets come and go. The record stays within what an annotation may
// hold, and whoever was seen last is remembered.
func TestARecordStaysSmall(t *testing.T) {
	counts := canary.Counters{}
	for _, check := range checks() {
		counts[check] = analysis.Counts{Bad: 123456, Total: 123456789}
	}
	trial := &Trial{}
	trial.judgeBy(Policy{Block: time.Minute})
	for range 1000 {
		trial.Blocks.add(counts, nil, time.Minute, trial.Policy)
	}
	for generation := range 5 {
		e := canary.Evidence{At: time.Date(2026, 1, 1, 0, generation, 0, 0, time.UTC)}
		for pod := range 300 {
			e.Streams = append(e.Streams, canary.Stream{ID: fmt.Sprintf("00000000-0000-0000-0000-%06d%06d/1795427293.42", generation, pod), Revision: "a", Counts: counts})
		}
		trial.absorb(e, "b", false, time.Minute)
	}
	text, err := json.Marshal(Record{Trial: trial})
	if err != nil || len(text) > 220<<10 {
		t.Errorf("the record has %d bytes, error %v", len(text), err)
	}
	if len(trial.Streams) != mostStreams {
		t.Errorf("%d streams are remembered, want %d", len(trial.Streams), mostStreams)
	}
	if _, ok := trial.Streams["00000000-0000-0000-0000-000003000000/1795427293.42"]; !ok {
		t.Error("a stream of the last sample but one is forgotten")
	}
}

// Another source knows the same events by other streams, and another limit counts
// the same streams in another way. Neither is added to what was counted.
func TestNothingIsCountedTwiceByAnotherOrigin(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sample := func(n int, origin, id string, bad, total int64) canary.Evidence {
		return canary.Evidence{At: start.Add(time.Duration(n) * time.Second), Origin: origin, Streams: []canary.Stream{
			{ID: id, Revision: "b", Counts: canary.Counters{canary.ErrorRate: {Bad: bad, Total: total}}},
		}}
	}
	for name, c := range map[string]struct {
		samples []canary.Evidence
		want    analysis.Counts
	}{
		"the same":                {[]canary.Evidence{sample(0, "x", "1", 1, 10), sample(1, "x", "1", 2, 30)}, analysis.Counts{Bad: 2, Total: 30}},
		"a record without origin": {[]canary.Evidence{sample(0, "", "1", 1, 10), sample(1, "x", "1", 2, 30)}, analysis.Counts{Bad: 2, Total: 30}},
		"another source":          {[]canary.Evidence{sample(0, "x", "1", 1, 10), sample(1, "y", "2", 9, 90)}, analysis.Counts{}},
		"another limit":           {[]canary.Evidence{sample(0, "x", "1", 5, 10), sample(1, "y", "1", 2, 30)}, analysis.Counts{}},
		"and what comes then": {[]canary.Evidence{sample(0, "x", "1", 1, 10), sample(1, "y", "2", 9, 90), sample(2, "y", "2", 10, 95)},
			analysis.Counts{Bad: 1, Total: 5}},
		"and back":                             {[]canary.Evidence{sample(0, "x", "1", 1, 10), sample(1, "y", "2", 9, 90), sample(2, "x", "1", 7, 70)}, analysis.Counts{}},
		"a retry of a trial of another origin": {[]canary.Evidence{sample(0, "x", "1", 5, 10), {}, sample(1, "y", "1", 2, 30)}, analysis.Counts{}},
		"the end of the trial before a retry":  {[]canary.Evidence{sample(0, "x", "1", 5, 10), {}, sample(1, "x", "1", 6, 30)}, analysis.Counts{}},
		"a retry of a trial of the same": {[]canary.Evidence{sample(0, "x", "1", 5, 10), {}, sample(1, "x", "1", 6, 30), sample(2, "x", "1", 7, 50)},
			analysis.Counts{Bad: 1, Total: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			trial := &Trial{}
			for _, e := range c.samples {
				if e.At.IsZero() {
					trial = Record{Trial: trial}.again(start, true).Trial
				}
				trial.follow(e)
				trial.absorb(e, "b", false, time.Second)
			}
			if got := trial.Candidate[canary.ErrorRate]; got != c.want {
				t.Errorf("counted %+v, want %+v", got, c.want)
			}
		})
	}
}

// What is summed up anew at each look may be incomplete once. The next sum must not
// be taken for that of a counter that began anew.
func TestALastingCounterThatFellIsAMistake(t *testing.T) {
	trial := &Trial{}
	for n, c := range []struct{ now, want analysis.Counts }{
		{analysis.Counts{Bad: 1, Total: 100}, analysis.Counts{Bad: 1, Total: 100}},
		{analysis.Counts{Bad: 1, Total: 40}, analysis.Counts{Bad: 1, Total: 100}},
		{analysis.Counts{Bad: 0, Total: 120}, analysis.Counts{Bad: 1, Total: 100}},
		{analysis.Counts{Bad: 2, Total: 150}, analysis.Counts{Bad: 2, Total: 150}},
	} {
		trial.absorb(canary.Evidence{At: time.Date(2026, 1, 1, 0, n, 0, 0, time.UTC), Streams: []canary.Stream{
			{ID: "1", Revision: "b", Monotonic: true, Counts: canary.Counters{canary.ErrorRate: c.now}},
		}}, "b", false, time.Minute)
		if got := trial.Candidate[canary.ErrorRate]; got != c.want {
			t.Errorf("counted %+v after %+v, want %+v", got, c.now, c.want)
		}
	}
}
