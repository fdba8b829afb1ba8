// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// settings are how much the test does.
type settings struct {
	// duration of the edits, two fifths of it without the hostile tenant.
	duration time.Duration
	// flagCaches is how many there are, a fifth of them of the hostile tenant.
	flagCaches int
	seed       uint64
}

func readSettings(t *testing.T) settings {
	t.Helper()
	read := func(name string, otherwise uint64) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	s := settings{
		duration:   time.Duration(read("CHURN_SECONDS", 60)) * time.Second,
		flagCaches: int(read("CHURN_FLAGCACHES", 30)),
		seed:       read("CHURN_SEED", uint64(time.Now().UnixNano())),
	}
	t.Logf("CHURN_SEED=%d", s.seed)
	return s
}

func (s settings) baseline() time.Duration { return s.duration * 2 / 5 }
func (s settings) hostile() time.Duration  { return s.duration - s.baseline() }

// rounds is how many rounds of faults fit into the first half of a phase.
func (s settings) rounds(phase time.Duration) int { return int(phase / 2 / roundLength) }

// ofHostile is how many FlagCaches the hostile tenant has; ofTeam how many each other one.
func (s settings) ofHostile() int { return s.flagCaches / 5 }
func (s settings) ofTeam() int    { return (s.flagCaches - s.ofHostile()) / 2 }

// editInterval is the time between two edits.
const editInterval = 500 * time.Millisecond
