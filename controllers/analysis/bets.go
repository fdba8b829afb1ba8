// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// bet is the bet of one gambler. For an observation x between 0 and 1 it multiplies the
// capital by (1 + x·oddsLessOne) / (1 + p·oddsLessOne), which is fair if the mean of x is p.
type bet struct {
	// theta is the logarithm of the odds ratio: positive for a bet on a mean above p,
	// negative for a bet on a mean below.
	theta float64
	// oddsLessOne is the odds ratio less one.
	oddsLessOne float64
}

// The grids of odds ratios. Sixteen from 1.3 to 30 would detect twice the limit 2 %
// sooner; starting at 1.05 makes the final interval five times narrower. Sums over
// blocks are valid for one grid only, so blockBets are part of the format of Blocks.
var (
	eventBets = logSpaced(16, 1.05, 30)
	blockBets = logSpaced(blockBetCount, 1.3, 1e6)

	inverseEventBets = inverse(eventBets)
	inverseBlockBets = inverse(blockBets)
)

// logSpaced returns n bets whose odds ratios are spaced evenly in the logarithm from low to
// high.
func logSpaced(n int, low, high float64) []bet {
	bets := make([]bet, n)
	from, to := math.Log(low), math.Log(high)
	for i := range bets {
		theta := from + (to-from)*float64(i)/float64(n-1)
		bets[i] = bet{theta: theta, oddsLessOne: math.Expm1(theta)}
	}
	return bets
}

// inverse returns the same bets on good instead of bad events.
func inverse(bets []bet) []bet {
	opposite := make([]bet, len(bets))
	for i, b := range bets {
		opposite[i] = bet{theta: -b.theta, oddsLessOne: math.Expm1(-b.theta)}
	}
	return opposite
}

// wealth is what all bets on one side have gained after n observations.
type wealth struct {
	bets []bet
	// logGains is the sum of log(1 + x·oddsLessOne) over all observations, for each bet.
	logGains []float64
	n        float64
}

// evidence returns the logarithm of the mean capital if p is the fair mean. It is a
// log-sum-exp with the maximum factored out, so no number of events overflows. It
// decreases in p for bets on a mean above, and increases for bets on a mean below.
func (w wealth) evidence(p float64) float64 {
	largest, sum := math.Inf(-1), 0.0
	for i, b := range w.bets {
		capital := w.logGains[i] - w.n*math.Log1p(p*b.oddsLessOne)
		if capital > largest {
			sum = sum*math.Exp(largest-capital) + 1
			largest = capital
		} else {
			sum += math.Exp(capital - largest)
		}
	}
	return largest + math.Log(sum/float64(len(w.bets)))
}

// bisections of the range that contains an end of the interval: down to 1e-12 of it.
const bisections = 40

// bound returns the fair mean between out and in, nearest to in, that is rejected at the
// threshold; in is not rejected. Bisection is valid because evidence is monotone.
func (w wealth) bound(out, in, threshold float64) float64 {
	for range bisections {
		p := out + (in-out)/2
		if w.evidence(p) >= threshold {
			out = p
		} else {
			in = p
		}
	}
	return out
}
