// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// few is a number of releases that keeps tests fast.
const few = 1000

// A test that rolls back every second healthy release violates the claims.
func TestVerifyFailsOnViolatedClaims(t *testing.T) {
	t.Parallel()
	f := figures{canaries: minCanaries, alpha: analysis.Share(0.2, len(checks))}
	f.measureHealthy()
	var out strings.Builder
	if err := verify(&out, f.claims()); err == nil || !strings.Contains(out.String(), "FAILED  false rollbacks at the limits") {
		t.Errorf("the claims were accepted: %v\n%s", err, out.String())
	}
}

func TestOutputIsDeterministic(t *testing.T) {
	t.Parallel()
	a, b := measure(minCanaries, 0.99), measure(minCanaries, 0.99)
	if a.tables() != b.tables() || a.plot() != b.plot() {
		t.Error("two runs differ")
	}
	for decoder := xml.NewDecoder(strings.NewReader(a.plot())); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the plot is not valid XML: %v", err)
		}
	}
	if strings.Contains(a.plot(), "NaN") || strings.Contains(a.plot(), "Inf") {
		t.Error("the plot contains invalid numbers")
	}
}

// The boundary replaces the test, so it must agree with it everywhere.
func TestBoundaryAgreesWithTest(t *testing.T) {
	t.Parallel()
	test := analysis.Test{Limit: 0.05, Alpha: 0.002}
	b := newBoundary(test)
	for bad := 1; bad < 30; bad++ {
		for n := int64(bad); n < 600; n += 7 {
			want := test.Judge(analysis.Counts{Bad: int64(bad), Total: n}).Breach
			if got := b.breached(bad, n); got != want {
				t.Fatalf("%d bad of %d: the boundary says %t, the test %t", bad, n, got, want)
			}
		}
	}
}

// Both kinds of streams have the configured rate of bad events.
func TestStreamsKeepTheirRate(t *testing.T) {
	t.Parallel()
	const rate, events = 0.01, 20_000_000
	for name, bursts := range map[string]bool{"independent": false, "bursty": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{times: 1, bursts: bursts}
			next := w.stream(check{limit: rate}, rand.New(rand.NewPCG(seed, 1)))
			bad := 0
			for n := next(); n <= events; n = next() {
				bad++
			}
			if got := float64(bad) / events; math.Abs(got/rate-1) > 0.05 {
				t.Errorf("the rate is %v, want %v", got, rate)
			}
		})
	}
}

// The fifth minute over the limit ends when any checks exceeded theirs in five minutes.
func TestThresholdsCountMinutes(t *testing.T) {
	t.Parallel()
	c := &judge{over: []bool{false, true, false, true, true, true, false, true}}
	for k, want := range map[int]int64{1: 2 * perMinute, 4: 6 * perMinute, 5: 8 * perMinute, 6: never} {
		if got := c.endOfMinuteOver(k); got != want {
			t.Errorf("minute %d ends at %d, want %d", k, got, want)
		}
	}
}

func TestSplice(t *testing.T) {
	t.Parallel()
	page := "before\n" + begin + "old\n" + end + "\nafter\n"
	got, err := splice(page, "new\n")
	if want := "before\n" + begin + "\nnew\n\n" + end + "\nafter\n"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := splice("no marks", "new"); err == nil {
		t.Error("a page without markers was accepted")
	}
}

// The claims of docs/canary.md, with fewer releases.
func TestClaimsHoldAndArePublished(t *testing.T) {
	t.Parallel()
	docs := t.TempDir()
	page := filepath.Join(docs, "canary.md")
	if err := os.WriteFile(page, []byte(begin+end), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(&out, few, docs); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, file := range []string{page, filepath.Join(docs, "canary.svg")} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "the verdict") {
			t.Errorf("%s does not mention the verdict:\n%s", file, text)
		}
	}
}

func TestTooFewReleasesAreRejected(t *testing.T) {
	t.Parallel()
	if err := run(io.Discard, minCanaries-1, t.TempDir()); err == nil {
		t.Error("too few releases were accepted")
	}
}
