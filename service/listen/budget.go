// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

// Budget limits the bytes of responses in flight of all listeners that share it: those
// that are reserved for a response that is being prepared, and those that were written
// and that clients have not received. It is safe for concurrent use; nil is no limit.
type Budget struct {
	max     int64
	bytes   atomic.Int64
	refused prometheus.Counter
	slow    prometheus.Counter
}

// NewBudget returns a budget of max bytes, nil if max is 0, and registers its metrics.
func NewBudget(max int64, registry prometheus.Registerer) *Budget {
	if max == 0 {
		return nil
	}
	b := &Budget{
		max: max,
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricResponsesRefused, Help: "Requests that were refused because clients had not received earlier responses.",
		}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricSlowReaders, Help: "Connections that were reset because their clients did not receive responses.",
		}),
	}
	registry.MustRegister(b.refused, b.slow, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: config.MetricBytesInFlight, Help: "Bytes of responses that are being prepared, or that clients have not received.",
	}, func() float64 { return float64(b.bytes.Load()) }))
	return b
}

// Reserve reserves the bytes of a response before it is prepared. It returns false if
// the request must be refused. A response that is larger than the budget is admitted if
// nothing else is in flight. The bytes must be released when the response is written,
// because the connection counts them from then on.
func (b *Budget) Reserve(bytes int64) bool {
	if b == nil {
		return true
	}
	if b.bytes.Add(bytes) > max(b.max, bytes) {
		b.bytes.Add(-bytes)
		b.refused.Inc()
		return false
	}
	return true
}

// Release releases reserved bytes.
func (b *Budget) Release(bytes int64) {
	if b != nil {
		b.bytes.Add(-bytes)
	}
}

// isStrained reports whether connections without progress are reset.
func (b *Budget) isStrained() bool { return b.bytes.Load() > b.max/2 }

// isExceeded reports whether the budget is exceeded by what needs no reservation, such
// as refusals. Then a client that does not receive its responses gets no more of them.
func (b *Budget) isExceeded() bool { return b.bytes.Load() > b.max+b.max/4 }
