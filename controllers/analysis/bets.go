// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// bet is one gambler. On an observation x between 0 and 1 it multiplies its
// capital by (1 + x·edge) / (1 + p·edge), which is fair if the mean of x is p.
type bet struct {
	// theta is the logarithm of the odds ratio: over 0 for a bet on a mean above
	// p, under 0 for one on a mean below.
	theta float64
	// oddsLessOne is the odds ratio less one.
	oddsLessOne float64
}

// The grids of odds ratios. Sixteen from 1.3 to 30 would find twice the limit 2 %
// sooner; beginning at 1.05 makes the interval five times as narrow in the end.
// Sums over blocks with one grid mean nothing with another, so blockBets
// are part of the format of Blocks.
var (
	eventBets = evenly(16, 1.05, 30)
	blockBets = evenly(blockGrid, 1.3, 1e6)

	mirroredEventBets = mirrored(eventBets)
	mirroredBlockBets = mirrored(blockBets)
)

// evenly returns n bets whose odds ratios, from low to high, are spaced evenly
// in the logarithm.
func evenly(n int, low, high float64) []bet {
	bets := make([]bet, n)
	from, to := math.Log(low), math.Log(high)
	for i := range bets {
		theta := from + (to-from)*float64(i)/float64(n-1)
		bets[i] = bet{theta: theta, oddsLessOne: math.Expm1(theta)}
	}
	return bets
}

// mirrored returns the same bets on good events in place of bad ones.
func mirrored(bets []bet) []bet {
	turned := make([]bet, len(bets))
	for i, b := range bets {
		turned[i] = bet{theta: -b.theta, oddsLessOne: math.Expm1(-b.theta)}
	}
	return turned
}

// game is the state of all bets on one side after n observations.
type game struct {
	bets []bet
	// gains is the sum of log(1 + x·edge) over all observations, for each bet.
	gains []float64
	n     float64
}

// evidence returns the logarithm of the mean capital when p is the fair mean.
// It is the logarithm of a sum of exponentials, with the largest taken out, so that
// no number of events overflows. It falls in p for bets on a mean above, and rises
// for those on one below.
func (g game) evidence(p float64) float64 {
	largest, sum := math.Inf(-1), 0.0
	for i, b := range g.bets {
		capital := g.gains[i] - g.n*math.Log1p(p*b.oddsLessOne)
		if capital > largest {
			sum = sum*math.Exp(largest-capital) + 1
			largest = capital
		} else {
			sum += math.Exp(capital - largest)
		}
	}
	return largest + math.Log(sum/float64(len(g.bets)))
}

// halvings is how often bisection halves the stretch in which an end of the
// interval lies: down to 1e-12 of it.
const halvings = 40

// end returns how far from out towards in the fair mean is refuted at the
// threshold: the mean nearest to in that is. Bisection may rest on evidence
// being monotone; in is a mean that is not refuted.
func (g game) end(out, in, threshold float64) float64 {
	for range halvings {
		p := out + (in-out)/2
		if g.evidence(p) >= threshold {
			out = p
		} else {
			in = p
		}
	}
	return out
}
