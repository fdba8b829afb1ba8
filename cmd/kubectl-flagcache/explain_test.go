// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/test/golden"
)

// aRecord of a canary with 100,000 requests, so many of which failed.
func aRecord(failed int64, change func(*canary.Record)) canary.Record {
	r := canary.Record{Revision: "0a1b2c3d", Outcome: canary.Promoted, Reason: "Promoted", Message: "the Service selects the revision", Canary: &canary.State{
		Progress: canary.Progress{Step: 2},
		Ledger: canary.Ledger{Candidate: canary.Counters{
			canary.ErrorRate: {Bad: failed, Total: 100000}, canary.LatencyP95: {Bad: 3000, Total: 100000},
			canary.LatencyP99: {Bad: 400, Total: 100000}, canary.CacheHitRate: {Bad: 9, Total: 120}, canary.MissLatencyP95: {Total: 9},
		}},
		Policy: canary.Policy{Alpha: 0.002, MinimumRequests: 1000, Limits: map[canary.Check]float64{
			canary.ErrorRate: 0.001, canary.LatencyP95: 0.05, canary.LatencyP99: 0.01, canary.CacheHitRate: 0.2, canary.MissLatencyP95: 0.05,
		}},
	}}
	change(&r)
	return r
}

// byBlocks has a record's events be in an hour of blocks of a minute, and so many of
// the requests that failed in the first of them.
func byBlocks(burst int64) func(*canary.Record) {
	return func(r *canary.Record) {
		r.Canary.Policy.Block, r.Canary.Policy.MinimumBlocks = time.Minute, 5
		r.Canary.Ledger.Blocks = &canary.TimeBlocks{Complete: map[canary.Check]analysis.Blocks{}}
		for check, all := range r.Canary.Ledger.Candidate {
			first := int64(0)
			if check == canary.ErrorRate {
				first = burst
			}
			var blocks analysis.Blocks
			for n := range int64(60) {
				minute := analysis.Counts{Bad: (all.Bad - first) / 60, Total: all.Total / 60}
				if n == 0 {
					minute.Bad += first
				}
				blocks = blocks.With(minute)
			}
			r.Canary.Ledger.Blocks.Complete[check] = blocks
		}
	}
}

func rolledBack(reason, message string) func(*canary.Record) {
	return func(r *canary.Record) { r.Outcome, r.Reason, r.Message = canary.RolledBack, reason, message }
}

func TestExplain(t *testing.T) {
	for name, test := range map[string]struct {
		record canary.Record
		exit   int
	}{
		"promoted":                {aRecord(50, func(*canary.Record) {}), exitOK},
		"promoted-in-spite":       {aRecord(900, func(*canary.Record) {}), exitContradiction},
		"promoted-by-a-person":    {aRecord(900, func(r *canary.Record) { r.Canary.Progress.Forced = true }), exitOK},
		"rolled-back":             {aRecord(900, rolledBack(canary.ReasonBreach, "errorRate: 0.9% of 100000 events are bad")), exitOK},
		"rolled-back-for-nothing": {aRecord(50, rolledBack(canary.ReasonBreach, "errorRate")), exitContradiction},
		"rolled-back-by-its-pods": {aRecord(0, rolledBack("CrashLoopBackOff", "a pod exits repeatedly")), exitOK},
		"rolled-back-by-load-test": {aRecord(0, func(r *canary.Record) {
			rolledBack("LoadTestFailed", "slow")(r)
			r.Canary.Progress.LoadTest = &canary.LoadTestResult{Report: `{"requests": 1200, "errorRate": 0.002, "latency": {"p95Ms": 250.4}}`}
		}), exitOK},
		"promoted-by-blocks": {aRecord(90, byBlocks(90)), exitOK},
		"rolled-back-by-blocks": {aRecord(900, func(r *canary.Record) {
			rolledBack(canary.ReasonBreach, "errorRate: on average of 60 blocks of 1m0s, 0.9% of the events are bad")(r)
			byBlocks(0)(r)
		}), exitOK},
		"rolled-back-for-a-burst": {aRecord(90, func(r *canary.Record) {
			rolledBack(canary.ReasonBreach, "errorRate")(r)
			byBlocks(90)(r)
		}), exitContradiction},
		"without-a-canary": {aRecord(0, func(r *canary.Record) { r.Canary = nil }), exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			record := test.record.Encode()
			revision := appsv1.ControllerRevision{}
			revision.Annotations = map[string]string{v1alpha1.AnnotationRecord: record}
			object, err := yaml.Marshal(revision)
			if err != nil {
				t.Fatal(err)
			}
			var alone, whole, stderr bytes.Buffer
			if exit := run([]string{"explain", "-f", "-"}, strings.NewReader(record), &alone, &stderr); exit != test.exit {
				t.Errorf("it exits with %d, want %d: %s", exit, test.exit, &stderr)
			}
			run([]string{"explain", "-f", "-"}, bytes.NewReader(object), &whole, &stderr)
			if d := cmp.Diff(alone.String(), whole.String()); d != "" {
				t.Errorf("a record and its ControllerRevision are explained differently:\n%s", d)
			}
			expectGolden(t, name+".golden", alone.String())
		})
	}
}

func TestExplainRefusesWhatIsNoRecord(t *testing.T) {
	for name, args := range map[string][]string{
		"no command": nil, "another command": {"status"}, "no file": {"explain"}, "no such file": {"explain", "-f", "none"},
		"two files": {"explain", "-f", "-", "more"}, "another object": {"explain", "-f", "-"},
	} {
		var stdout, stderr bytes.Buffer
		if exit := run(args, strings.NewReader("kind: Secret"), &stdout, &stderr); exit != exitUsage || stderr.Len() == 0 {
			t.Errorf("%s: it exits with %d and prints %q", name, exit, &stderr)
		}
	}
}

// expectGolden compares with a golden file.
func expectGolden(t *testing.T, file, got string) {
	t.Helper()
	golden.Expect(t, file, got)
}

// Whoever may write ControllerRevisions writes what a person's terminal shows.
func TestControlCharactersOfRecordsAreEscaped(t *testing.T) {
	text := aRecord(50, func(r *canary.Record) { r.Message = "\x1b]0;pwned\x07" }).Encode()
	var stdout, stderr bytes.Buffer
	if code := run([]string{"explain", "-f", "-"}, strings.NewReader(text), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit status %d: %s", code, stderr.String())
	}
	if out := stdout.String(); strings.ContainsAny(out, "\x1b\x07") || !strings.Contains(out, `\x1b]0;pwned\a`) {
		t.Errorf("got %q", out)
	}
}
