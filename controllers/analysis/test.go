// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// Test is a test of the hypothesis that an event is bad with a probability of
// at most Limit, given all events before it.
type Test struct {
	// Limit is a proportion. Under 1e-9 it counts as 1e-9, over 1-1e-9 as that, so
	// that a limit of "none" is refuted by a few bad events and not by a single one.
	Limit float64
	// Alpha is the probability, at most, that a hypothesis which holds is ever called a
	// breach, over all looks together. With 0 nothing is; over one half it counts
	// as one half.
	Alpha float64
}

// Result is what the events say about the hypothesis. No field is NaN or infinite.
type Result struct {
	// Breach says that the limit is refuted: LogEvidence is at least log(1/Alpha). It
	// is the same as Lower at or over the limit, to within the bisection.
	Breach bool `json:"breach"`
	// LogEvidence is the natural logarithm of the capital of the bets against the
	// hypothesis; 0 before the first event.
	LogEvidence float64 `json:"logEvidence"`
	// Observed is the proportion of bad events, 0 before the first event.
	Observed float64 `json:"observed"`
	// Lower and Upper are the ends of a confidence sequence: each is right at all looks
	// together with a probability of at least 1-Alpha. Lower <= Observed <= Upper.
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper"`
}

// Share returns the Alpha of each of some checks when a release that keeps all
// limits is to pass all of them with a probability of at least confidence, for
// example 0.99. Only breaches roll back, so only they spend it.
func Share(confidence float64, checks int) float64 {
	return (1 - confidence) / float64(max(checks, 1))
}

// Judge judges the events since the candidate began. It is a function of its
// input alone: the order of the events, and looks before this one, do not
// matter. More bad events among as many never make the evidence less.
func (t Test) Judge(c Counts) Result {
	c = c.sane()
	return t.judge(c.over(), c.under(), c.proportion())
}

// LogEvidence is that of Judge, without the interval and at an eightieth of its
// cost.
func (t Test) LogEvidence(c Counts) float64 {
	return c.sane().over().evidence(t.limit())
}

// judge decides between both sides of the same observations.
func (t Test) judge(over, under game, observed float64) Result {
	threshold := t.threshold()
	evidence := over.evidence(t.limit())
	return Result{
		Breach:      evidence >= threshold,
		LogEvidence: evidence,
		Observed:    observed,
		Lower:       over.end(0, observed, threshold),
		Upper:       under.end(1, observed, threshold),
	}
}

// smallest is the smallest limit, and the distance of the largest from one.
const smallest = 1e-9

// limit within which all logarithms are finite; that of nothing (NaN) is the smallest.
func (t Test) limit() float64 {
	if !(t.Limit > smallest) {
		return smallest
	}
	return min(t.Limit, 1-smallest)
}

// threshold that the logarithm of the capital has to reach for a breach.
func (t Test) threshold() float64 {
	if !(t.Alpha > 0) {
		return math.Inf(1)
	}
	return -math.Log(min(t.Alpha, 0.5))
}

// over is the game of those who bet on bad events.
func (c Counts) over() game { return c.game(eventBets) }

// under is the game of those who bet on good events.
func (c Counts) under() game { return c.game(mirroredEventBets) }

// game of bets after the events: a good event gains log 1, a bad one theta.
func (c Counts) game(bets []bet) game {
	g := game{bets: bets, gains: make([]float64, len(bets)), n: float64(c.Total)}
	for i, b := range bets {
		g.gains[i] = float64(c.Bad) * b.theta
	}
	return g
}
