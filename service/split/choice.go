// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"math/bits"
	"math/rand/v2"

	"github.com/twmb/murmur3"
)

// parts is the number of parts of all traffic: hundredths of a percent.
const parts = 10_000

// selector decides which requests are in a share.
type selector struct {
	// seed is the same in all pods of a FlagCache.
	seed uint64
}

func newSelector(salt string) selector { return selector{seed: murmur3.StringSum64(salt)} }

// includes reports whether the targeting key is in the first share parts of the
// traffic. Requests without a key are included at random.
func (c selector) includes(key string, share uint64) bool {
	if key == "" {
		return rand.Uint64N(parts) < share
	}
	part, _ := bits.Mul64(murmur3.SeedStringSum64(c.seed, key), parts)
	return part < share
}
