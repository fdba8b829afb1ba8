// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// Test is a test of the hypothesis that an event is bad with a probability of at most
// Limit, given all previous events.
type Test struct {
	// Limit is a proportion, clamped to between 1e-9 and 1-1e-9, so that a limit of zero
	// is rejected by a few bad events and not by a single one.
	Limit float64
	// Alpha is the maximum probability of a breach, over all looks, if the hypothesis
	// holds. It is at most one half; with 0 there is never a breach.
	Alpha float64
}

// Result is the result of a test. No field is NaN or infinite.
type Result struct {
	// Breach is set if the hypothesis is rejected: LogEvidence is at least log(1/Alpha).
	// It is equivalent to Lower >= Limit, up to the precision of bisection.
	Breach bool `json:"breach"`
	// LogEvidence is the natural logarithm of the capital of the bets against the
	// hypothesis; 0 before the first event.
	LogEvidence float64 `json:"logEvidence"`
	// Observed is the proportion of bad events, 0 before the first event.
	Observed float64 `json:"observed"`
	// Lower and Upper are the ends of a confidence sequence: each is valid at all looks
	// simultaneously with a probability of at least 1-Alpha. Lower <= Observed <= Upper.
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper"`
}

// Share returns the Alpha of each check, such that a release that keeps all limits
// breaches none with a probability of at least confidence, for example 0.99.
func Share(confidence float64, checks int) float64 {
	return (1 - confidence) / float64(max(checks, 1))
}

// Judge tests the events since the candidate started. It is a pure function of its input:
// the order of the events and previous looks do not matter. The evidence is monotone in
// the number of bad events.
func (t Test) Judge(c Counts) Result {
	c = c.clamped()
	return t.judge(c.bettingOnBad(), c.bettingOnGood(), c.proportion())
}

// LogEvidence returns the LogEvidence of Judge without the interval, at an eightieth of
// the cost.
func (t Test) LogEvidence(c Counts) float64 {
	return c.clamped().bettingOnBad().evidence(t.limit())
}

// judge combines the bets on both sides of the same observations.
func (t Test) judge(above, below wealth, observed float64) Result {
	threshold := t.threshold()
	evidence := above.evidence(t.limit())
	return Result{
		Breach:      evidence >= threshold,
		LogEvidence: evidence,
		Observed:    observed,
		Lower:       above.bound(0, observed, threshold),
		Upper:       below.bound(1, observed, threshold),
	}
}

// minLimit is the smallest limit, and 1-minLimit the largest.
const minLimit = 1e-9

// limit returns the clamped limit, with which all logarithms are finite; minLimit for NaN.
func (t Test) limit() float64 {
	if !(t.Limit > minLimit) {
		return minLimit
	}
	return min(t.Limit, 1-minLimit)
}

// threshold returns the logarithm of the capital that is a breach.
func (t Test) threshold() float64 {
	if !(t.Alpha > 0) {
		return math.Inf(1)
	}
	return -math.Log(min(t.Alpha, 0.5))
}

// bettingOnBad returns the wealth of bets on bad events.
func (c Counts) bettingOnBad() wealth { return c.wealth(eventBets) }

// bettingOnGood returns the wealth of bets on good events.
func (c Counts) bettingOnGood() wealth { return c.wealth(inverseEventBets) }

// wealth returns that of bets after the events: a good event gains 0, a bad one theta.
func (c Counts) wealth(bets []bet) wealth {
	w := wealth{bets: bets, logGains: make([]float64, len(bets)), n: float64(c.Total)}
	for i, b := range bets {
		w.logGains[i] = float64(c.Bad) * b.theta
	}
	return w
}
