// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/flagcache/flagcache/controllers/canary"
)

// Virtual time is counted in events: a service with 200 requests per second sends 5 % of
// them to its canary, and each is one event for every check.
const (
	perSecond = 10
	perMinute = 60 * perSecond
	hour      = 60 * perMinute
)

// check is a check with its limit, the maximum fraction of bad events.
type check struct {
	name  canary.Check
	limit float64
}

// checks are all checks with their default limits, the strictest first.
var checks = defaultChecks()

func defaultChecks() []check {
	var all []check
	for _, c := range canary.Checks() {
		all = append(all, check{c.Check, c.Limit})
	}
	slices.SortStableFunc(all, func(a, b check) int { return cmp.Compare(a.limit, b.limit) })
	return all
}

// world is the true behaviour of a release.
type world struct {
	// checks are the evaluated checks.
	checks []check
	// times is the true rate of bad events as a multiple of the limit, for all checks.
	times float64
	// bursts makes bad events occur in bursts rather than independently.
	bursts bool
	// horizon is the end of the simulation, in events.
	horizon int64
}

// stream returns the number of the next bad event on each call, counted from 1.
type stream func() int64

// stream returns the bad events of one check.
func (w world) stream(c check, r *rand.Rand) stream {
	rate := w.times * c.limit
	if w.bursts {
		return bursty(rate, r)
	}
	return independent(rate, r)
}

// independent returns a stream in which each event is bad with a probability of rate.
func independent(rate float64, r *rand.Rand) stream {
	hazard := -math.Log1p(-rate)
	var now int64
	return func() int64 {
		now += 1 + int64(r.ExpFloat64()/hazard)
		return now
	}
}

// A burst lasts 10 seconds, during which an event is bad with a probability of 0.3.
const (
	burstLength = 10 * perSecond
	burstRate   = 0.3
)

// bursty returns a stream with bad events in bursts only, which begin at random times and
// are as rare as the rate requires. The first event is outside a burst.
func bursty(rate float64, r *rand.Rand) stream {
	hazard := -math.Log1p(-burstRate)
	gap := burstLength * (burstRate/rate - 1)
	var now, left int64
	return func() int64 {
		step := 1 + int64(r.ExpFloat64()/hazard)
		for step > left {
			step -= left
			now += left + int64(r.ExpFloat64()*gap)
			left = burstLength
		}
		now += step
		left -= step
		return now
	}
}

// divergence is the Kullback-Leibler divergence of a rate from a limit, in nats: the
// expected evidence per event if the rate were known.
func divergence(rate, limit float64) float64 {
	d := rate * math.Log(rate/limit)
	if rate < 1 {
		d += (1 - rate) * math.Log((1-rate)/(1-limit))
	}
	return d
}
