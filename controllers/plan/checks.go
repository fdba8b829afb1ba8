// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/canary"
)

// Policy is what a candidate is judged by.
type Policy struct {
	// Limits on the share of bad events, by check.
	Limits map[canary.Check]float64 `json:"limits,omitempty"`
	// Alpha of each check.
	Alpha float64 `json:"alpha,omitempty"`
	// MinimumRequests of a step.
	MinimumRequests int64 `json:"minimumRequests,omitempty"`
	// Block is how long a block is, where checks are judged on blocks of time; 0 where
	// every event counts by itself.
	Block time.Duration `json:"block,omitempty"`
	// MinimumBlocks of a step, besides MinimumRequests.
	MinimumBlocks int64 `json:"minimumBlocks,omitempty"`
	// Strict wants the whole interval within the limit before a step passes.
	Strict bool `json:"strict,omitempty"`
}

// checks in the order in which people read them.
func checks() []canary.Check {
	return []canary.Check{canary.ErrorRate, canary.LatencyP95, canary.LatencyP99, canary.CacheHitRate, canary.MissLatencyP95}
}

// policyOf reads a canary's policy. A percentile is a share of requests that may
// be slower.
func policyOf(spec *v1alpha1.CanarySpec) Policy {
	p := Policy{
		Limits: map[canary.Check]float64{
			canary.ErrorRate:      share(spec.Thresholds.ErrorRate, 0.001),
			canary.CacheHitRate:   1 - share(spec.Thresholds.CacheHitRate, 0.8),
			canary.LatencyP95:     0.05,
			canary.LatencyP99:     0.01,
			canary.MissLatencyP95: 0.05,
		},
		Alpha:           analysis.Share(share(spec.Confidence, 0.99), len(checks())),
		MinimumRequests: spec.MinimumRequests,
		Strict:          spec.Strict,
	}
	if spec.Blocks != nil {
		p.Block, p.MinimumBlocks = spec.Blocks.Duration.Duration, int64(spec.Blocks.Minimum)
	}
	return p
}

// observations are how many events, or blocks, a result is about.
func (p Policy) observations(r CheckResult) int64 {
	if p.Block > 0 {
		return r.Blocks
	}
	return r.Counts.Total
}

// share reads a percentage such as "0.1%". The API server admits no other text;
// an empty one is the default.
func share(p v1alpha1.Percentage, otherwise float64) float64 {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(string(p), "%"), 64)
	if err != nil {
		return otherwise
	}
	return percent / 100
}

// Verdict on a check.
type Verdict string

// Verdicts.
const (
	// Pass: enough events, and no more bad ones among them than the limit.
	Pass Verdict = "Pass"
	// Breach: the limit is refuted.
	Breach Verdict = "Breach"
	// Inconclusive: neither, yet.
	Inconclusive Verdict = "Inconclusive"
)

// CheckResult is a check with its evidence.
type CheckResult struct {
	Check  canary.Check
	Limit  float64
	Counts analysis.Counts
	// Blocks that Result is about, where the policy wants them; else it is about
	// Counts.
	Blocks  int64
	Result  analysis.Result
	Verdict Verdict
}

// Judge is the verdict on every check of a trial, by its own policy. It is a
// function of the trial alone, so that anybody can repeat it from a record.
func (t *Trial) Judge() []CheckResult {
	var results []CheckResult
	for _, check := range checks() {
		r := CheckResult{Check: check, Limit: t.Policy.Limits[check], Counts: t.Candidate[check]}
		test := analysis.Test{Limit: r.Limit, Alpha: t.Policy.Alpha}
		if t.Policy.Block > 0 {
			blocks := t.Blocks.of(check)
			r.Blocks, r.Result = blocks.Count, test.JudgeBlocks(blocks)
		} else {
			r.Result = test.Judge(r.Counts)
		}
		r.Verdict = t.verdict(r)
		results = append(results, r)
	}
	return results
}

func (t *Trial) verdict(r CheckResult) Verdict {
	switch {
	case r.Result.Breach:
		return Breach
	case !t.enough(r.Check):
		return Inconclusive
	case t.Policy.Strict && r.Counts.Total > 0 && r.Result.Upper > r.Limit, r.Result.Observed > r.Limit:
		return Inconclusive
	default:
		return Pass
	}
}

// enough tells whether there are enough events of a kind for a pass. Look-ups of
// the cache are rare, because requests are answered from memory; and that nothing
// missed the cache is as good as a miss that was fast.
func (t *Trial) enough(check canary.Check) bool {
	switch check {
	case canary.MissLatencyP95:
		return true
	case canary.CacheHitRate:
		return t.Candidate[check].Total > 0 && (t.Policy.Block == 0 || t.Blocks.of(check).Count > 0)
	default:
		return t.inStep(check).Total >= max(t.Policy.MinimumRequests, 1) && t.Blocks.inStep(check) >= t.Policy.MinimumBlocks
	}
}

// breached is the first check that is over its limit.
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

// lacking are the checks that do not pass yet, for people.
func (t *Trial) lacking(results []CheckResult) string {
	var names []string
	for _, r := range results {
		if r.Verdict != Pass {
			names = append(names, string(r.Check))
		}
	}
	if len(names) == 0 && t.Blocks.underWay() {
		return "the end of a block"
	}
	return strings.Join(names, ", ")
}

// percent of a proportion, to a hundredth of a percent; to less where it is small.
func percent(p float64) v1alpha1.Percentage {
	decimals := 2
	if p < 0.01 {
		decimals = 4
	}
	text := strconv.FormatFloat(p*100, 'f', decimals, 64)
	return v1alpha1.Percentage(strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "%")
}
