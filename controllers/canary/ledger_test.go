// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"fmt"
	"testing"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

const interval = 10 * time.Second

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// requests is a sample of one pod of candidate b that has counted so many since it began.
func requests(at time.Time, bad, total int64) Evidence {
	return Evidence{At: at, Streams: []Stream{{ID: "b/1", Revision: "b", Counts: Counters{ErrorRate: {Bad: bad, Total: total}}}}}
}

// sample of evidence about candidate b, which has had its share for an hour.
func sample(e Evidence) Sample {
	return Sample{Evidence: e, Candidate: "b", Interval: interval, SharedAt: noon.Add(-time.Hour), SharedFor: time.Hour}
}

func TestReconcileWithoutANewSampleDoesNotCount(t *testing.T) {
	const interval = time.Second
	for name, c := range map[string]struct {
		after   time.Duration
		sampled bool
		gap     time.Duration
		decided bool
	}{
		"soon, without a sample":              {after: interval / 2},
		"soon, with a sample":                 {after: interval / 2, sampled: true, gap: interval / 2, decided: true},
		"after an interval, without a sample": {after: interval, gap: interval, decided: true},
		"after an hour":                       {after: time.Hour, gap: 2 * interval, decided: true},
		"after the clock was set back":        {after: -time.Hour, decided: true},
	} {
		t.Run(name, func(t *testing.T) {
			now := noon.Add(c.after)
			next, gap := Progress{DecidedAt: noon}.decideAt(now, c.sampled, interval)
			if gap != c.gap {
				t.Errorf("the gap is %s, want %s", gap, c.gap)
			}
			if decided := next.DecidedAt.Equal(now); decided != c.decided {
				t.Errorf("decided: %t, want %t", decided, c.decided)
			}
		})
	}
}

// A reconcile by the clock may come just before each sample. It must not take the time
// from the sample, or a step would never end.
func TestReconcilesBetweenSamplesTakeNoTime(t *testing.T) {
	var ledger Ledger
	var total time.Duration
	for n := range 7 {
		at := noon.Add(time.Duration(n) * interval)
		for _, e := range []Evidence{{}, {At: at}, {At: at}} {
			next, observed := ledger.Record(sample(e))
			ledger, total = next, total+observed
		}
	}
	if total != 6*interval {
		t.Errorf("%s were observed between seven samples", total)
	}
}

// Pods of large fleets come and go. The record stays below what an annotation may hold,
// and the streams that were seen last are kept.
func TestRecordsStaySmall(t *testing.T) {
	counts := Counters{}
	for _, check := range Names() {
		counts[check] = analysis.Counts{Bad: 123456, Total: 123456789}
	}
	state := State{Ledger: Ledger{Blocks: &TimeBlocks{}}, Policy: Policy{Block: time.Minute}}
	for range 1000 {
		state.Ledger.Blocks = state.Ledger.Blocks.add(counts, nil, time.Minute, state.Policy)
	}
	for generation := range 5 {
		e := Evidence{At: noon.Add(time.Duration(generation) * time.Minute)}
		for pod := range 300 {
			e.Streams = append(e.Streams, Stream{ID: fmt.Sprintf("00000000-0000-0000-0000-%06d%06d/1795427293.42", generation, pod), Revision: "a", Counts: counts})
		}
		state.Ledger, _ = state.Ledger.Record(sample(e))
	}
	if n := len((Record{Revision: "b", Canary: &state}).Encode()); n > 220<<10 {
		t.Errorf("the record has %d bytes", n)
	}
	if n := len(state.Ledger.Streams); n != maxStreams {
		t.Errorf("%d streams are kept, want %d", n, maxStreams)
	}
	if _, ok := state.Ledger.Streams["00000000-0000-0000-0000-000003000000/1795427293.42"]; !ok {
		t.Error("a stream of the last sample but one is forgotten")
	}
}

// The largest sample of queries has 200 series for each check of both revisions.
func TestRecordsOfManySeriesStaySmall(t *testing.T) {
	e := Evidence{At: noon}
	for _, check := range Names() {
		for series := range 400 {
			e.Streams = append(e.Streams, Stream{
				ID: fmt.Sprintf("%s/0a1b2c3d/%016x", check, series), Revision: "a",
				Counts: Counters{check: {Bad: 123456, Total: 123456789}},
			})
		}
	}
	ledger, _ := Ledger{}.Record(sample(e))
	if n := len((Record{Revision: "b", Canary: &State{Ledger: ledger}}).Encode()); n > 240<<10 {
		t.Errorf("the record has %d bytes", n)
	}
}

// Another source knows the same events by other streams, and another limit counts the
// same streams in another way. Neither is added to what was counted.
func TestNothingIsCountedTwiceByAnotherOrigin(t *testing.T) {
	of := func(n int, origin, id string, bad, total int64) Evidence {
		return Evidence{At: noon.Add(time.Duration(n) * time.Second), Origin: origin, Streams: []Stream{
			{ID: id, Revision: "b", Counts: Counters{ErrorRate: {Bad: bad, Total: total}}},
		}}
	}
	for name, c := range map[string]struct {
		samples []Evidence
		want    analysis.Counts
	}{
		"the same":                {[]Evidence{of(0, "x", "1", 1, 10), of(1, "x", "1", 2, 30)}, analysis.Counts{Bad: 2, Total: 30}},
		"a record without origin": {[]Evidence{of(0, "", "1", 1, 10), of(1, "x", "1", 2, 30)}, analysis.Counts{Bad: 2, Total: 30}},
		"another source":          {[]Evidence{of(0, "x", "1", 1, 10), of(1, "y", "2", 9, 90)}, analysis.Counts{}},
		"another limit":           {[]Evidence{of(0, "x", "1", 5, 10), of(1, "y", "1", 2, 30)}, analysis.Counts{}},
		"and what follows": {[]Evidence{of(0, "x", "1", 1, 10), of(1, "y", "2", 9, 90), of(2, "y", "2", 10, 95)},
			analysis.Counts{Bad: 1, Total: 5}},
		"and back":                             {[]Evidence{of(0, "x", "1", 1, 10), of(1, "y", "2", 9, 90), of(2, "x", "1", 7, 70)}, analysis.Counts{}},
		"a retry with another origin":          {[]Evidence{of(0, "x", "1", 5, 10), {}, of(1, "y", "1", 2, 30)}, analysis.Counts{}},
		"the end of the canary before a retry": {[]Evidence{of(0, "x", "1", 5, 10), {}, of(1, "x", "1", 6, 30)}, analysis.Counts{}},
		"a retry with the same origin": {[]Evidence{of(0, "x", "1", 5, 10), {}, of(1, "x", "1", 6, 30), of(2, "x", "1", 7, 50)},
			analysis.Counts{Bad: 1, Total: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			var state State
			for _, e := range c.samples {
				if e.At.IsZero() {
					state = *Record{Canary: &state}.Again(noon, true, false).Canary
				}
				state.Ledger, _ = state.Ledger.Record(sample(e))
			}
			if got := state.Ledger.Candidate[ErrorRate]; got != c.want {
				t.Errorf("counted %+v, want %+v", got, c.want)
			}
		})
	}
}

// The pods of a revision that was promoted may still run when it gets another canary: what
// they counted before is no evidence for this one.
func TestCanaryOfAPromotedRevisionCountsFromItsFirstSample(t *testing.T) {
	record := Record{Revision: "b", Canary: &State{Progress: Progress{Step: 2, Forced: true}}}.Promoted(noon, time.Time{}, 1).Again(noon, false, false)
	ledger := record.Canary.Ledger
	for n, c := range []struct{ now, want analysis.Counts }{
		{analysis.Counts{Bad: 50, Total: 100}, analysis.Counts{}},
		{analysis.Counts{Bad: 51, Total: 140}, analysis.Counts{Bad: 1, Total: 40}},
	} {
		ledger, _ = ledger.Record(sample(Evidence{At: noon.Add(time.Duration(n) * time.Minute), Streams: []Stream{
			{ID: "1", Revision: "b", Counts: Counters{ErrorRate: c.now}},
		}}))
		if got := ledger.Candidate[ErrorRate]; got != c.want {
			t.Errorf("counted %+v after %+v, want %+v", got, c.now, c.want)
		}
	}
}

// A sum that is made for each sample may be incomplete once. The next one must not be
// taken for that of a counter that was reset.
func TestMonotonicCounterThatDecreasedIsAMistake(t *testing.T) {
	var ledger Ledger
	for n, c := range []struct{ now, want analysis.Counts }{
		{analysis.Counts{Bad: 1, Total: 100}, analysis.Counts{Bad: 1, Total: 100}},
		{analysis.Counts{Bad: 1, Total: 40}, analysis.Counts{Bad: 1, Total: 100}},
		{analysis.Counts{Bad: 0, Total: 120}, analysis.Counts{Bad: 1, Total: 100}},
		{analysis.Counts{Bad: 2, Total: 150}, analysis.Counts{Bad: 2, Total: 150}},
	} {
		ledger, _ = ledger.Record(sample(Evidence{At: noon.Add(time.Duration(n) * time.Minute), Streams: []Stream{
			{ID: "1", Revision: "b", Monotonic: true, Counts: Counters{ErrorRate: c.now}},
		}}))
		if got := ledger.Candidate[ErrorRate]; got != c.want {
			t.Errorf("counted %+v after %+v, want %+v", got, c.now, c.want)
		}
	}
}
