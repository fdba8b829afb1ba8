// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// Policy is what a candidate is judged by.
type Policy struct {
	// Limits on the proportion of bad events, by check. A check without one is not judged.
	Limits map[Check]float64
	// Alpha of each check: the probability, at most, that it breaches although the
	// candidate keeps its limit.
	Alpha float64
	// MinimumRequests of a step.
	MinimumRequests int64
	// Block is the length of a block, where checks are judged by blocks of time; 0 where
	// every event counts by itself.
	Block time.Duration
	// MinimumBlocks of a step, besides MinimumRequests.
	MinimumBlocks int64
	// Strict requires the whole confidence interval within the limit before a step passes.
	Strict bool
}

// NewPolicy returns a policy that rolls back a candidate which keeps all limits with a
// probability of at most one minus confidence.
func NewPolicy(confidence float64, limits map[Check]float64) Policy {
	return Policy{Limits: limits, Alpha: analysis.Share(confidence, len(limits))}
}

// begunWith returns the policy for a canary that began with another one. Alpha and the
// set of checks stay as they were: the probability of a false rollback was promised for
// the whole canary, and another alpha, or another check at the same one, would break
// that promise in the middle.
func (p Policy) begunWith(begun Policy) Policy {
	if begun.Alpha == 0 {
		return p
	}
	p.Alpha = begun.Alpha
	limits := make(map[Check]float64, len(begun.Limits))
	for check, limit := range begun.Limits {
		if now, ok := p.Limits[check]; ok {
			limit = now
		}
		limits[check] = limit
	}
	p.Limits = limits
	return p
}

// observations is how many events, or blocks, a result is about.
func (p Policy) observations(r CheckResult) int64 {
	if p.Block > 0 {
		return r.Blocks
	}
	return r.Counts.Total
}

// Verdict on a check.
type Verdict string

// Verdicts.
const (
	// Pass: enough events, and no larger share of bad ones than the limit.
	Pass Verdict = "Pass"
	// Breach: the limit is refuted.
	Breach Verdict = "Breach"
	// Inconclusive: neither, so far.
	Inconclusive Verdict = "Inconclusive"
)

// CheckResult is a check with its evidence.
type CheckResult struct {
	Check  Check
	Limit  float64
	Counts analysis.Counts
	// Blocks that Result is about, where the policy groups events; otherwise it is about
	// Counts.
	Blocks  int64
	Result  analysis.Result
	Verdict Verdict
}

// Judge returns the verdict on every check of the policy. It depends on the state alone,
// so that anybody can repeat it from a record.
func (s State) Judge() []CheckResult {
	var results []CheckResult
	for _, c := range checks {
		limit, judged := s.Policy.Limits[c.Check]
		if !judged {
			continue
		}
		r := CheckResult{Check: c.Check, Limit: limit, Counts: s.Ledger.Candidate[c.Check]}
		test := analysis.Test{Limit: limit, Alpha: s.Policy.Alpha}
		if s.Policy.Block > 0 {
			blocks := s.Ledger.Blocks.of(c.Check)
			r.Blocks, r.Result = blocks.Count, test.JudgeBlocks(blocks)
		} else {
			r.Result = test.Judge(r.Counts)
		}
		r.Verdict = s.verdict(r)
		results = append(results, r)
	}
	return results
}

func (s State) verdict(r CheckResult) Verdict {
	switch {
	case r.Result.Breach:
		return Breach
	case !s.enough(r.Check):
		return Inconclusive
	case s.Policy.Strict && r.Counts.Total > 0 && r.Result.Upper > r.Limit, r.Result.Observed > r.Limit:
		return Inconclusive
	default:
		return Pass
	}
}

// enough reports whether a check has enough events to pass.
func (s State) enough(check Check) bool {
	switch check.events() {
	case CacheMisses:
		return true
	case CacheLookups:
		return s.Ledger.Candidate[check].Total > 0 && (s.Policy.Block == 0 || s.Ledger.Blocks.of(check).Count > 0)
	default:
		return s.Ledger.requestsInStep(check) >= max(s.Policy.MinimumRequests, 1) && s.Ledger.Blocks.inStep(check) >= s.Policy.MinimumBlocks
	}
}

// HasObservations reports whether a result is about anything: without it the interval
// means nothing.
func (s State) HasObservations(r CheckResult) bool { return s.Policy.observations(r) > 0 }

// breached is the first check over its limit.
func breached(results []CheckResult) (CheckResult, bool) {
	for _, r := range results {
		if r.Verdict == Breach {
			return r, true
		}
	}
	return CheckResult{}, false
}

func allPass(results []CheckResult) bool {
	for _, r := range results {
		if r.Verdict != Pass {
			return false
		}
	}
	return true
}

// lacking names the checks that do not pass yet.
func (s State) lacking(results []CheckResult) string {
	var names []string
	for _, r := range results {
		if r.Verdict != Pass {
			names = append(names, string(r.Check))
		}
	}
	if len(names) == 0 && s.Ledger.Blocks.isOpen() {
		return "the end of a block"
	}
	return strings.Join(names, ", ")
}

// describeInconclusive describes what a step lacks whose deadline passed. Counts and
// times are rounded, so that the text changes rarely.
func describeInconclusive(in Input, s State, results []CheckResult) string {
	var lacking []string
	for _, r := range results {
		switch seen := s.Ledger.requestsInStep(r.Check); {
		case r.Verdict == Pass:
		case r.Check.events() == Requests && seen < max(s.Policy.MinimumRequests, 1):
			lacking = append(lacking, fmt.Sprintf("%s has about %d of the %d requests that it needs", r.Check, rounded(seen), max(s.Policy.MinimumRequests, 1)))
		default:
			lacking = append(lacking, fmt.Sprintf("%s has too few events to tell", r.Check))
		}
	}
	if len(lacking) == 0 {
		lacking = append(lacking, "every check passes")
	}
	left := "none of the step's duration is left"
	if rest := (in.Spec.Steps[s.Progress.Step-1].Duration - s.Progress.Observed).Round(time.Minute); rest > 0 {
		left = fmt.Sprintf("about %s of the step's duration with evidence is left", rest)
	}
	return fmt.Sprintf("The deadline of step %d of revision %s passed with too little evidence: %s, and %s", s.Progress.Step, in.Candidate, strings.Join(lacking, ", "), left)
}

// rounded returns a number with its first two digits only.
func rounded(n int64) int64 {
	unit := int64(1)
	for n/unit >= 100 {
		unit *= 10
	}
	return n / unit * unit
}

// clearly is how many times worse than the stable revision a candidate has to be while
// both are over a limit.
const clearly = 2

// stableNoBetter compares the proportions of bad events of both revisions: the stable one
// is over the limit too, and the candidate is not clearly worse. That can only hold a
// rollback back, so it costs no false one.
func stableNoBetter(stable, candidate, limit float64) bool {
	return stable > limit && clearly*stable >= candidate
}

// describeBreach describes what refuted a limit.
func describeBreach(r CheckResult, p Policy) string {
	if p.Block > 0 {
		return fmt.Sprintf("%s: on average of %d blocks of %s, %s of the events are bad (at least %s by the confidence interval), the limit is %s",
			r.Check, r.Blocks, p.Block, Percent(r.Result.Observed), Percent(r.Result.Lower), Percent(r.Limit))
	}
	return fmt.Sprintf("%s: %s of %d events are bad (at least %s by the confidence interval), the limit is %s",
		r.Check, Percent(r.Result.Observed), r.Counts.Total, Percent(r.Result.Lower), Percent(r.Limit))
}

// ParsePercent parses a percentage such as "0.1%" to a proportion; ok is false if it is
// empty or invalid.
func ParsePercent(text string) (proportion float64, ok bool) {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	return percent / 100, err == nil
}

// Percent formats a proportion to a hundredth of a percent, and to less where it is
// small: "0.1%".
func Percent(p float64) string {
	decimals := 2
	if p < 0.01 {
		decimals = 4
	}
	text := strconv.FormatFloat(p*100, 'f', decimals, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "%"
}
