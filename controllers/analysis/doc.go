// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package analysis tests whether a proportion of bad events exceeds its limit. The test
// is sequential: its result is valid at every look, however many looks there are.
//
//	events   . . . x . . . . . . x . x . . x x . x . x x     x is bad
//	capital  1 ─────▶ falls with each good event, rises with each bad one
//	Breach   at the first look with a capital of at least 1/α
//
// # The test
//
// Sixteen gamblers bet on each event that it is bad. The game is fair at the limit L. The
// gambler with the odds ratio m multiplies a capital of 1 by
//
//	m / (1 + L(m-1))  for a bad event,   1 / (1 + L(m-1))  for a good one.
//
// That is the likelihood ratio of the rate whose odds are m times those of the limit to
// the limit itself. While each event is bad with a probability of at most L, given all
// previous events, no capital grows on average: each is a supermartingale, and so is
// their mean. By Ville's inequality a nonnegative supermartingale that starts at 1 ever
// reaches 1/α with a probability of at most α. Ever means at any event, and so at any
// subset of events, however chosen. A canary that keeps its limit is rolled back with a
// probability of at most α, with one look or with a million.
//
// After n events, b of them bad, a gambler has m^b / (1+L(m-1))^n. The state is two
// counters, which can be added in any order, and a look takes sixteen logarithms whatever
// the number of events. The odds ratios are spaced evenly in the logarithm, because the
// rate of a bad candidate is unknown. Using sixteen costs at most log 16 of the best log
// capital, and less in practice, since neighbouring bets win as well.
//
// # The interval
//
// The capital can be computed for every other limit p. The limits at which it stays below
// 1/α, against the hypothesis "at most p", lie above Lower, and Breach means that Lower
// exceeds the limit. The mirrored bets, with odds ratios 1/m, against the hypothesis "at
// least p" yield Upper. The capital is monotone in p, so both are found by bisection:
// forty steps of sixteen logarithms each. Each end is valid at all times simultaneously
// with a probability of at least 1-α, both together with 1-2α.
//
// The smallest odds ratio, 1.05, bounds the resolution: a rate that exceeds the limit by
// less than one part in forty is never a breach, and neither end of the interval gets
// closer than that to the observed rate.
//
// # How α is spent
//
// Only a breach rolls back, so only the side of Lower spends α: [Share] divides
// one minus the confidence among the checks, and by Boole's inequality the sum
// bounds the chance that any check of a healthy candidate breaches, whatever
// their dependence. Upper has the same level of its own, and is used only if strict limits
// are requested.
//
// # Bursts
//
// The assumption is about each event given the previous ones. It holds for independent
// events, and for rates that vary below the limit. It does not hold for bursts: during an
// outage of ten seconds the next event is bad more often than the limit allows, even if
// outages are so rare that the whole day keeps the limit. The test then reports a breach,
// which is right for those seconds and wrong for the day. [Blocks] treat the events of a
// period as one observation, their proportion, and test its mean. The caller chooses the
// periods, independently of the number of bad events in them.
//
// # Sources
//
//   - J. Ville, Étude critique de la notion de collectif, 1939: the inequality.
//   - I. Waudby-Smith and A. Ramdas, Estimating means of bounded random
//     variables by betting, Journal of the Royal Statistical Society B 86(1),
//     2024 (read before the Society in 2023): capital processes for a bounded mean,
//     which are the test of Blocks, and intervals by inversion.
//   - S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, Time-uniform,
//     nonparametric, nonasymptotic confidence sequences, Annals of Statistics
//     49(2), 2021: mixtures, and intervals that are valid at all times simultaneously.
package analysis
