// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// NewLimit returns a limit of perSecond requests per second with the given
// burst; for 0 it returns nil, which is no limit.
func NewLimit(perSecond float64, burst int) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), burst)
}

// Wait counts a request and returns 0 if it is within the limit, or else the
// time after which one would be. A nil limit is no limit.
func Wait(limit *rate.Limiter, now time.Time) time.Duration {
	if limit == nil || limit.AllowN(now, 1) {
		return 0
	}
	missing := 1 - limit.TokensAt(now)
	return time.Duration(math.Ceil(missing / float64(limit.Limit()) * float64(time.Second)))
}
