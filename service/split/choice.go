// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"math/bits"
	"math/rand/v2"

	"github.com/twmb/murmur3"
)

// parts is what the whole traffic is divided into: hundredths of a percent.
const parts = 10_000

// chooser decides who is in a share.
type chooser struct {
	// seed is the same in all pods of one FlagCache.
	seed uint64
}

func newChooser(salt string) chooser { return chooser{seed: murmur3.StringSum64(salt)} }

// includes says whether the first so many parts of the traffic include the
// targeting key. Who has none is included by chance.
func (c chooser) includes(key string, share uint64) bool {
	if key == "" {
		return rand.Uint64N(parts) < share
	}
	part, _ := bits.Mul64(murmur3.SeedStringSum64(c.seed, key), parts)
	return part < share
}
