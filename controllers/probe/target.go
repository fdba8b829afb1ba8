// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"reflect"
	"slices"
	"time"

	"github.com/flagcache/flagcache/controllers/secret"
)

// Defaults of a Target's numbers that are not positive.
const (
	DefaultInterval         = 10 * time.Second
	DefaultTimeout          = 2 * time.Second
	DefaultFailureThreshold = 3
	DefaultSuccessThreshold = 2
)

// Target is one cache and how its clients connect to it.
type Target struct {
	// ID identifies the target to the caller. Results carry it, and a target with
	// another ID is another target.
	ID string
	// Addr is the cache's host:port.
	Addr string
	// Username and Password authenticate; both empty means no authentication.
	Username string
	Password secret.String
	// TLS encrypts the connection and verifies the server's certificate.
	TLS bool
	// Own means that the operator has created the cache, so that its address is no
	// secret to its owner.
	Own bool
	// CA holds the PEM certificates to verify the server's certificate with. Empty
	// means the system's.
	CA []byte
	// Key is written with an expiry of a minute and read back. No other prober may use
	// it, or each reads back the other's value.
	Key string

	// Interval between two probes (default 10s), Timeout of one probe (default 2s).
	Interval, Timeout time.Duration
	// FailureThreshold consecutive failures make a cache unhealthy (default 3),
	// SuccessThreshold consecutive successes make it healthy again (default 2).
	FailureThreshold, SuccessThreshold int
}

// withDefaults returns a deep copy of t with defaults.
func (t Target) withDefaults() Target {
	t.CA = slices.Clone(t.CA)
	if len(t.CA) == 0 {
		t.CA = nil
	}
	t.Interval = positiveOr(t.Interval, DefaultInterval)
	t.Timeout = positiveOr(t.Timeout, DefaultTimeout)
	t.FailureThreshold = positiveOr(t.FailureThreshold, DefaultFailureThreshold)
	t.SuccessThreshold = positiveOr(t.SuccessThreshold, DefaultSuccessThreshold)
	return t
}

// equal reports whether all fields of two targets with defaults are equal.
func (t Target) equal(o Target) bool { return reflect.DeepEqual(t, o) }

func positiveOr[N int | time.Duration](n, otherwise N) N {
	if n > 0 {
		return n
	}
	return otherwise
}
