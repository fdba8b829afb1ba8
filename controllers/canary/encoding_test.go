// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/controllers/analysis"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func readTestdata(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// What an operator wrote before there were versions is read, and rewritten in the
// current version without a loss.
func TestRecordsWithoutVersionAreRead(t *testing.T) {
	for _, name := range []string{"events", "blocks", "rejected"} {
		t.Run(name, func(t *testing.T) {
			old, err := Decode(readTestdata(t, "record-v0-"+name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "record-v1-"+name+".json")
			if *update {
				if err := os.WriteFile(golden, []byte(old.Encode()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(readTestdata(t, filepath.Base(golden)), old.Encode()); d != "" {
				t.Errorf("the current version of it differs (-want +got):\n%s", d)
			}
			again, err := Decode(old.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(old, again); d != "" {
				t.Errorf("it changes when it is rewritten (-old +again):\n%s", d)
			}
		})
	}
}

// The fields of a record without a version mean what they meant.
func TestMeaningOfRecordsWithoutVersion(t *testing.T) {
	const text = `{"revision":"04ad20bc","outcome":"RolledBack","reason":"Breach","message":"errorRate","startedAt":"2026-06-01T12:00:10Z",` +
		`"finishedAt":"2026-06-01T12:00:50Z","lifted":true,"passed":true,"retried":true,"intent":"abc","trial":{"step":2,` +
		`"stepStartedAt":"2026-06-01T12:02:30Z","lookedAt":"2026-06-01T12:04:20Z","sampledAt":"2026-06-01T12:04:10Z","elapsed":90000000000,` +
		`"observed":80000000000,"calm":70000000000,"candidate":{"errorRate":{"bad":1,"total":2}},"stable":{"errorRate":{"bad":3,"total":4}},` +
		`"before":{"errorRate":{"bad":5,"total":6}},"kept":7,"keptBefore":8,"blocks":{"open":{"errorRate":{"bad":9,"total":10}},"openFor":60000000000,` +
		`"stable":{"errorRate":{"bad":11,"total":12}},"before":{"errorRate":13}},"recentCandidate":{"errorRate":{"bad":0.5,"total":1.5}},` +
		`"recentStable":{"errorRate":{"bad":2.5,"total":3.5}},"origin":"o","streams":{"s":{"counts":{"errorRate":{"bad":14,"total":15}},"kept":16,"missed":17}},` +
		`"unavailableFor":50000000000,"doubtedAt":"2026-06-01T12:03:00Z","inconclusive":true,"resumed":true,"byHand":true,` +
		`"loadTest":{"passed":true,"report":"{}"},"policy":{"limits":{"errorRate":0.001},"alpha":0.002,"minimumRequests":18,"block":60000000000,"minimumBlocks":5,"strict":true}}}`
	at := func(hour, minute, second int) time.Time {
		return time.Date(2026, 6, 1, hour, minute, second, 0, time.UTC)
	}
	count := func(bad, total int64) Counters { return Counters{ErrorRate: {Bad: bad, Total: total}} }
	want := Record{
		Revision: "04ad20bc", Outcome: RolledBack, Reason: ReasonBreach, Message: "errorRate", StartedAt: at(12, 0, 10), FinishedAt: at(12, 0, 50),
		Lifted: true, Passed: true, Retried: true, Intent: "abc",
		Canary: &State{
			Policy: Policy{Limits: map[Check]float64{ErrorRate: 0.001}, Alpha: 0.002, MinimumRequests: 18, Block: time.Minute, MinimumBlocks: 5, Strict: true},
			Progress: Progress{
				Step: 2, StepStartedAt: at(12, 2, 30), DecidedAt: at(12, 4, 20), Elapsed: 90 * time.Second, Observed: 80 * time.Second, HealthyFor: 70 * time.Second,
				UnavailableFor: 50 * time.Second, SuspectedAt: at(12, 3, 0), Inconclusive: true, Resumed: true, Forced: true, LoadTest: &LoadTestResult{Passed: true, Report: "{}"},
			},
			Ledger: Ledger{
				Origin: "o", SampledAt: at(12, 4, 10), Candidate: count(1, 2), Stable: count(3, 4), CandidateAtStep: count(5, 6), Local: 7, LocalAtStep: 8,
				RecentCandidate: Decaying{ErrorRate: {Bad: 0.5, Total: 1.5}}, RecentStable: Decaying{ErrorRate: {Bad: 2.5, Total: 3.5}},
				Blocks:  &TimeBlocks{Open: count(9, 10), OpenFor: time.Minute, Stable: count(11, 12), AtStep: map[Check]int64{ErrorRate: 13}},
				Streams: map[string]Reading{"s": {Counts: count(14, 15), Local: 16, Missed: 17}},
			},
		},
	}
	got, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("it is read differently (-want +got):\n%s", d)
	}
	again, err := Decode(got.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, again); d != "" {
		t.Errorf("the current version loses something (-want +got):\n%s", d)
	}
}

// Every field of a record is kept.
func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	want := Record{
		Revision: "b", Outcome: Promoted, StartedAt: noon, FinishedAt: noon.Add(time.Hour), Passed: true,
		Used:   Commands{Abort: true, Promote: true, Pause: true, Resume: true},
		Canary: &State{Progress: Progress{Step: 1, SharedAt: noon}, Ledger: Ledger{Origin: "o", Continues: true}},
	}
	got, err := Decode(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-written +read:\n%s", d)
	}
}

// One promoted by hand was recorded as passed by earlier operators.
func TestRecordsOfRevisionsThatWerePromotedByHand(t *testing.T) {
	for text, want := range map[string]bool{
		`{"version":1,"revision":"b","outcome":"Promoted","passed":true}`:                                                                        true,
		`{"version":1,"revision":"b","outcome":"Promoted","passed":true,"canary":{"policy":{},"progress":{"step":2},"ledger":{}}}`:               true,
		`{"version":1,"revision":"b","outcome":"Promoted","passed":true,"canary":{"policy":{},"progress":{"step":2,"forced":true},"ledger":{}}}`: false,
		`{"version":1,"revision":"b","outcome":"Promoted","canary":{"policy":{},"progress":{"step":1},"ledger":{}}}`:                             false,
		`{"version":1,"revision":"b","outcome":"Superseded","passed":true}`:                                                                      false,
	} {
		record, err := Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := record.PromotedByVerdict(); got != want {
			t.Errorf("promoted by verdict: %t for %s", got, text)
		}
	}
}

func TestDurationsOfRecordsAreReadable(t *testing.T) {
	text := Record{Revision: "b", Canary: &State{Progress: Progress{Elapsed: 90 * time.Second}, Policy: Policy{Block: time.Minute}}}.Encode()
	for _, want := range []string{`"version":1`, `"elapsed":"1m30s"`, `"block":"1m0s"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
}

func TestRecordsThatCannotBeDecoded(t *testing.T) {
	for name, c := range map[string]struct{ text, err string }{
		"nothing":                     {"", "the record is empty"},
		"no JSON":                     {"revision: b", "the record is not valid"},
		"half a record":               {`{"version":1,"revision":"b","canary":{`, "the record is not valid"},
		"two records":                 {`{"version":1,"revision":"b"}{}`, "the record is not valid"},
		"another value":               {`"b"`, "the record is not valid"},
		"null":                        {`null`, "it names no revision"},
		"no revision":                 {`{"version":1}`, "it names no revision"},
		"a newer version":             {`{"version":2,"revision":"b"}`, "version 2, which is unknown: this operator reads versions up to 1"},
		"an impossible one":           {`{"version":-1,"revision":"b"}`, "version -1, which is unknown"},
		"a version that is no number": {`{"version":"one","revision":"b"}`, "the record is not valid"},
		"an unknown outcome":          {`{"version":1,"revision":"b","outcome":"Won"}`, "its outcome is unknown"},
		"a wrong duration":            {`{"version":1,"revision":"b","canary":{"progress":{"elapsed":"soon"}}}`, "a duration is not valid"},
		"a number of seconds":         {`{"version":1,"revision":"b","canary":{"progress":{"elapsed":90}}}`, "the record is not valid"},
		"a negative duration":         {`{"version":1,"revision":"b","canary":{"progress":{"elapsed":"-1s"}}}`, "a negative duration"},
		"a negative step":             {`{"revision":"b","trial":{"step":-1}}`, "its step is negative"},
		"a wrong time":                {`{"version":1,"revision":"b","startedAt":"yesterday"}`, "the record is not valid"},
		"a string for a count":        {`{"revision":"b","trial":{"candidate":{"errorRate":"none"}}}`, "the record is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			record, err := Decode(c.text)
			if err == nil {
				t.Fatalf("it was read as %+v", record)
			}
			if !strings.Contains(err.Error(), c.err) {
				t.Errorf("the error is %q, want %q in it", err, c.err)
			}
		})
	}
}

// An error is reported in a condition, so its length is bounded.
func TestDecodingErrorsAreShort(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, text := range []string{
		long, `{"version":1,"revision":"b","outcome":"` + long + `"}`, `{"version":1,"revision":"b","startedAt":"` + long + `"}`,
		`{"version":1,"revision":"b","canary":{"progress":{"elapsed":"` + long + `"}}}`, `{"` + long + `":1,"version":"` + long + `"}`,
	} {
		if _, err := Decode(text); err == nil || len(err.Error()) > 300 {
			t.Errorf("an error of %d bytes: %.100v", len(err.Error()), err)
		}
	}
}

// Whatever is decoded stays the same from one operator to the next.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"v0-events", "v0-blocks", "v0-rejected", "v1-events", "v1-blocks", "v1-rejected"} {
		f.Add(readTestdata(f, "record-"+name+".json"))
	}
	f.Add(`{"version":2,"revision":"b"}`)
	f.Add(`{"version":1,"revision":"b","startedAt":"9999-12-31T23:59:59-23:59","canary":{"policy":{},"progress":{"step":1,"elapsed":"2562047h47m16.854775807s"},"ledger":{}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		record, err := Decode(text)
		if err != nil {
			return
		}
		encoded := record.Encode()
		again, err := Decode(encoded)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, encoded)
		}
		if d := cmp.Diff(encoded, again.Encode()); d != "" {
			t.Fatalf("another encoding of the same record:\n%s", d)
		}
		if record.Canary != nil {
			record.Canary.Judge()
			Next(Input{Now: noon, Candidate: record.Revision, Recorded: *record.Canary, Evidence: requests(noon, 1, 2), Spec: Spec{
				Steps: []Step{{Weight: 5, Duration: time.Minute}}, Interval: interval, Deadline: time.Hour, Policy: byMinute,
			}})
		}
	})
}

// A record has what a verdict needs, and nothing else changes it.
func TestJudgingFromARecord(t *testing.T) {
	record, err := Decode(readTestdata(t, "record-v0-rejected.json"))
	if err != nil {
		t.Fatal(err)
	}
	results := record.Canary.Judge()
	if r, ok := breached(results); !ok || r.Check != ErrorRate || r.Counts != (analysis.Counts{Bad: 4, Total: 200}) {
		t.Errorf("the verdict is %+v", results)
	}
}
