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

// Virtual time is counted in events: a service of 200 requests a second hands 5 %
// of them to its canary, and each is one event of every check.
const (
	perSecond = 10
	perMinute = 60 * perSecond
	hour      = 60 * perMinute
)

// check is a proportion with the largest share of bad events that it may have.
type check struct {
	name  canary.Check
	limit float64
}

// checks with their default limits, the strictest first.
var checks = defaultChecks()

func defaultChecks() []check {
	var all []check
	for _, c := range canary.Checks() {
		all = append(all, check{c.Check, c.Limit})
	}
	slices.SortStableFunc(all, func(a, b check) int { return cmp.Compare(a.limit, b.limit) })
	return all
}

// world is a release on its way, as it truly is.
type world struct {
	// checks that it is judged by.
	checks []check
	// times the limit is the true rate of bad events, in all checks.
	times float64
	// bursts says that bad events come in bursts and not each by itself.
	bursts bool
	// horizon is when the simulation ends, in events.
	horizon int64
}

// stream returns, at each call, the number of the next bad event, counted from 1.
type stream func() int64

// stream of bad events of one check.
func (w world) stream(c check, r *rand.Rand) stream {
	rate := w.times * c.limit
	if w.bursts {
		return bursty(rate, r)
	}
	return independent(rate, r)
}

// independent events are bad with a probability of rate each.
func independent(rate float64, r *rand.Rand) stream {
	hazard := -math.Log1p(-rate)
	var now int64
	return func() int64 {
		now += 1 + int64(r.ExpFloat64()/hazard)
		return now
	}
}

// A burst lasts 10 seconds in which an event is bad with a probability of 0.3.
const (
	burstLength = 10 * perSecond
	burstRate   = 0.3
)

// bursty events are bad in bursts alone, which begin at random times and are as rare
// as the rate wants it. The first event is outside of a burst.
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

// divergence is Kullback and Leibler's of a rate from a limit, in nats: what one
// event adds to the evidence of somebody who knows the rate beforehand.
func divergence(rate, limit float64) float64 {
	d := rate * math.Log(rate/limit)
	if rate < 1 {
		d += (1 - rate) * math.Log((1-rate)/(1-limit))
	}
	return d
}
