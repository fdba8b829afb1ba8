// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// NewLimit returns a limit of so many requests a second, with as many at once as
// burst says; nil, which is no limit, for 0 a second.
func NewLimit(perSecond float64, burst int) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), burst)
}

// Wait counts a request and returns 0, or returns how long to wait before a
// request would be within the limit. A nil limit is none.
func Wait(limit *rate.Limiter, now time.Time) time.Duration {
	if limit == nil || limit.AllowN(now, 1) {
		return 0
	}
	missing := 1 - limit.TokensAt(now)
	return time.Duration(math.Ceil(missing / float64(limit.Limit()) * float64(time.Second)))
}
