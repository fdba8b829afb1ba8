// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStorm injects several faults at a time, chosen by a seed that it prints:
// CHAOS_SEED replays it.
func TestStorm(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	t.Logf("CHAOS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := startRig(t)
	for squall := range max(2, int(faultLength().Seconds())/2) {
		chosen := chooseTogether(random)
		t.Run(fmt.Sprintf("%d: %v", squall, names(chosen)), func(t *testing.T) { r.squall(t, random, chosen) })
		if r.faulty {
			t.Fatal("later faults would fail only because of this one")
		}
	}
}

// chooseTogether picks two to four faults, one at the most of those that harm the
// same thing: healing one would undo the other.
func chooseTogether(random *rand.Rand) []fault {
	var chosen []fault
	taken := map[string]bool{everything: true}
	for _, n := range random.Perm(len(faults)) {
		if f := faults[n]; len(chosen) < 4 && !taken[f.harms] {
			taken[f.harms] = true
			chosen = append(chosen, f)
		}
	}
	chosen = chosen[:min(len(chosen), 2+random.IntN(3))]
	// What is done to Redis itself takes a Redis that works, and is undone last.
	slices.SortStableFunc(chosen, func(a, b fault) int { return strings.Compare(a.harms, b.harms) })
	return chosen
}

func names(chosen []fault) []string {
	var all []string
	for _, f := range chosen {
		all = append(all, f.name)
	}
	return all
}

// squall has the faults begin one after the other, and end in the opposite order.
func (r *rig) squall(t *testing.T, random *rand.Rand, chosen []fault) {
	r.t, r.faulty = t, true
	pause := func() {
		wait := time.NewTimer(time.Duration(random.Int64N(int64(faultLength() / 4))))
		defer wait.Stop()
		select {
		case <-t.Context().Done():
		case <-wait.C:
		}
	}
	reports := r.attack(faultLength()*3/2, func() {
		for _, f := range chosen {
			f.inject(r)
			pause()
		}
		for _, f := range slices.Backward(chosen) {
			if f.heal != nil {
				f.heal(r)
			}
			pause()
		}
		r.change()
		r.awaitRedis()
	})
	r.settled()
	r.compare()
	r.t, r.faulty = r.root, false
	mustNotFail(t, "storm", reports)
	t.Logf("%s", latencyOf(reports))
}
