// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"

	"github.com/flagcache/flagcache/controllers/analysis"
)

// figures are the results of the simulation.
type figures struct {
	canaries     int
	alpha        float64
	healthy      []healthyRow
	faulty       []faultyRow
	bursts       []burstsRow
	blockLengths []blockRow
	// half are the outcomes at half of all limits, for the plot.
	half []outcome
}

// healthyRow is the fraction of healthy releases that are rolled back within an hour.
type healthyRow struct {
	release                  string
	verdict, once, fiveTimes float64
}

// faultyRow is the median number of events until a release that fails one check is
// rolled back.
type faultyRow struct {
	check check
	times float64
	// bound is the lower bound on the average number of events of any test,
	// log(1/alpha)/KL(rate, limit), rounded up.
	bound                            float64
	verdict, once, fiveTimes, blocks float64
	// within is the fraction that the verdict rolls back within an hour.
	within float64
}

// ratio of the median to the bound.
func (r faultyRow) ratio() float64 { return r.verdict / r.bound }

// burstsRow is the fraction of releases with bursty errors that are rolled back within
// an hour.
type burstsRow struct {
	times                           float64
	events, blocks, once, fiveTimes float64
}

// blockRow is the effect of a block length: the fraction of releases with bursty errors
// that are rolled back within an hour, and the median number of events until rollback
// for steady errors at ten times the limit.
type blockRow struct {
	name                     string
	length                   int64
	half, limit, ten, steady float64
}

// long is a horizon within which every bad release is rolled back.
const long = 100 * hour

// measure runs all simulations. canaries is the number of healthy releases in each world,
// confidence the configured probability that a healthy release passes.
func measure(canaries int, confidence float64) figures {
	f := figures{canaries: canaries, alpha: analysis.Share(confidence, len(checks))}
	f.measureHealthy()
	for _, c := range distinctLimits() {
		for _, times := range []float64{2, 3, 5, 10} {
			if times*c.limit < 1 {
				f.measureFaulty(c, times)
			}
		}
	}
	for _, times := range []float64{0.5, 1, 3, 10} {
		f.measureBursts(times)
	}
	f.measureBlockLengths()
	return f
}

// distinctLimits returns one check for each limit: the simulation depends on nothing
// else.
func distinctLimits() []check {
	var distinct []check
	seen := map[float64]bool{}
	for _, c := range checks {
		if !seen[c.limit] {
			distinct = append(distinct, c)
		}
		seen[c.limit] = true
	}
	return distinct
}

func (f *figures) measureHealthy() {
	for _, w := range []struct {
		release string
		world   world
	}{
		{"all five checks at their limits", world{checks: checks, times: 1, horizon: hour}},
		{"all five checks at half their limits", world{checks: checks, times: 0.5, horizon: hour}},
		{"error rate alone, at half its limit", world{checks: checks[:1], times: 0.5, horizon: hour}},
	} {
		outcomes := simulate(f.canaries, w.world, f.alpha)
		if w.world.times == 0.5 && len(w.world.checks) > 1 {
			f.half = outcomes
		}
		f.healthy = append(f.healthy, healthyRow{
			release:   w.release,
			verdict:   share(endsBy(outcomes, verdict), hour),
			once:      share(endsBy(outcomes, once), hour),
			fiveTimes: share(endsBy(outcomes, fiveTimes), hour),
		})
	}
}

func (f *figures) measureFaulty(c check, times float64) {
	w := world{checks: []check{c}, times: times, horizon: long}
	outcomes := simulate(f.canaries/4, w, f.alpha)
	blocks := simulateBlocks(f.canaries/40, w, f.alpha, perMinute)
	f.faulty = append(f.faulty, faultyRow{
		check: c, times: times,
		bound:     math.Ceil(math.Log(1/f.alpha) / divergence(times*c.limit, c.limit)),
		verdict:   median(endsBy(outcomes, verdict)),
		once:      median(endsBy(outcomes, once)),
		fiveTimes: median(endsBy(outcomes, fiveTimes)),
		blocks:    median(blocks),
		within:    share(endsBy(outcomes, verdict), hour),
	})
}

func (f *figures) measureBursts(times float64) {
	w := world{checks: checks[:1], times: times, bursts: true, horizon: hour}
	outcomes := simulate(f.canaries, w, f.alpha)
	f.bursts = append(f.bursts, burstsRow{
		times:     times,
		events:    share(endsBy(outcomes, verdict), hour),
		blocks:    share(simulateBlocks(f.canaries, w, f.alpha, perMinute), hour),
		once:      share(endsBy(outcomes, once), hour),
		fiveTimes: share(endsBy(outcomes, fiveTimes), hour),
	})
}

func (f *figures) measureBlockLengths() {
	for _, row := range []blockRow{
		{name: "10 seconds, the length of a burst", length: burstLength},
		{name: "a minute", length: perMinute},
		{name: "5 minutes", length: 5 * perMinute},
	} {
		within := func(times float64) float64 {
			w := world{checks: checks[:1], times: times, bursts: true, horizon: hour}
			return share(simulateBlocks(f.canaries, w, f.alpha, row.length), hour)
		}
		row.half, row.limit, row.ten = within(0.5), within(1), within(10)
		row.steady = median(simulateBlocks(f.canaries/40, world{checks: checks[:1], times: 10, horizon: long}, f.alpha, row.length))
		f.blockLengths = append(f.blockLengths, row)
	}
}

// claim is a documented property of the verdict with its measured value.
type claim struct {
	what            string
	measured, limit float64
	format          string
}

func (c claim) holds() bool { return c.measured <= c.limit }

func (c claim) String() string {
	return fmt.Sprintf("%s: "+c.format+", at most "+c.format, c.what, c.measured, c.limit)
}

// claims returns the claims of the documentation.
func (f figures) claims() []claim {
	percent := func(what string, measured, atMost float64) claim {
		return claim{what: what, measured: 100 * measured, limit: 100 * atMost, format: "%.2f %%"}
	}
	claims := []claim{
		percent("false rollbacks at the limits", f.healthy[0].verdict, 0.01),
		percent("false rollbacks at half the limits", f.healthy[1].verdict, 0.001),
	}
	for _, r := range f.faulty {
		atMost := 1.2
		if r.times < 3 {
			atMost = 1.3
		}
		claims = append(claims, claim{
			what:     fmt.Sprintf("median until rollback by the bound, %s at %g times the limit", r.check.name, r.times),
			measured: r.ratio(), limit: atMost, format: "%.2f",
		})
	}
	for _, r := range f.bursts {
		if r.times <= 1 {
			what := fmt.Sprintf("false rollbacks by blocks, bursts at %g times the limit", r.times)
			claims = append(claims, percent(what, r.blocks, 0.01))
		}
	}
	for _, r := range f.blockLengths {
		if r.length > burstLength {
			claims = append(claims, percent("false rollbacks by blocks of "+r.name+", bursts at the limit", r.limit, 0.01))
		}
	}
	return claims
}
