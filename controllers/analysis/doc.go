// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package analysis answers one question: is this proportion of bad events over
// its limit? The answer is valid at every look, however often one looks.
//
//	events   . . . x . . . . . . x . x . . x x . x . x x     x is bad
//	capital  1 ─────▶ falls with each good event, rises with each bad one
//	Breach   at the first look at which the capital is 1/α or more
//
// # The test
//
// Think of sixteen gamblers who bet, event by event, that the next one is bad.
// The limit L is what makes their game fair. The gambler with the odds ratio m
// multiplies a capital of 1 by
//
//	m / (1 + L(m-1))  at a bad event,   1 / (1 + L(m-1))  at a good one.
//
// That is the likelihood ratio of the rate whose odds are m times the limit's
// to the limit itself. While each event is bad with a probability of at most L,
// given everything before it, nobody's capital grows on average: each is a
// supermartingale, and so is their mean. Ville's inequality says that a
// nonnegative supermartingale that begins at 1 ever reaches 1/α with a
// probability of at most α. Ever: at whichever event, and so at any subset of
// them, chosen in whatever way. A canary that keeps its limit is rolled back
// with a probability of at most α, with one look or with a million.
//
// After n events, b of them bad, a gambler has m^b / (1+L(m-1))^n. The whole
// state is two counters, which may be added up in any order, and a look costs
// sixteen logarithms whatever the number of events. The odds ratios are spaced
// evenly in the logarithm, because the rate of a bad candidate is not known
// beforehand. Having sixteen costs at most log 16 of the winner's log capital,
// and less in fact, since its neighbours win too.
//
// # The interval
//
// The same capital can be computed for every other limit p. Those at which it
// stays under 1/α, against the hypothesis "at most p", lie above one end; Lower
// is that end, and Breach says that Lower is over the limit. The mirrored bets,
// with odds ratios 1/m, against the hypothesis "at least p" give Upper. The
// capital is monotone in p, so both are found by bisection: forty steps of
// sixteen logarithms each. Each end holds at all times at once with a
// probability of at least 1-α, both together with 1-2α.
//
// The smallest odds ratio, 1.05, bounds what many events can tell: a rate that
// is over the limit by less than one part in forty is never called a breach,
// and neither end of the interval comes nearer than that to the observed rate.
//
// # What α is spent on
//
// Only a breach rolls back, so only the side of Lower spends α: [Share] divides
// one minus the confidence among the checks, and by Boole's inequality the sum
// bounds the chance that any check of a healthy candidate breaches, whatever
// their dependence. Upper has the same level of its own, and decides only where
// a user asks for strict limits.
//
// # When events come in bursts
//
// The assumption is about each event given those before it. Independent events
// keep it, and so do rates that vary under the limit. Bursts do not: in the
// middle of an outage of ten seconds the next event is bad more often than the
// limit says, even if outages are so rare that the day as a whole keeps it. The
// test then calls a breach, rightly of those seconds and wrongly of the day.
// [Blocks] counts the events of a stretch of time as one observation, their
// proportion, and asks the same of that. Which stretches those are is up to the
// caller, as long as it does not look at how many of their events are bad to choose.
//
// # Sources
//
//   - J. Ville, Étude critique de la notion de collectif, 1939: the inequality.
//   - I. Waudby-Smith and A. Ramdas, Estimating means of bounded random
//     variables by betting, Journal of the Royal Statistical Society B 86(1),
//     2024 (read before the Society in 2023): capital processes against a
//     bounded mean, which is what Blocks are judged by, and intervals by
//     inversion.
//   - S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, Time-uniform,
//     nonparametric, nonasymptotic confidence sequences, Annals of Statistics
//     49(2), 2021: mixtures, and intervals that hold at all times at once.
package analysis
