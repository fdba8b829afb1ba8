// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"testing"
	"time"
)

func TestCutOff(t *testing.T) {
	var c cutOff
	now := time.Minute
	for i := range cutOffAfter - 1 {
		if c.failed(now) || !c.admits(now) {
			t.Fatalf("the candidate is cut off after %d failures", i+1)
		}
	}
	if !c.failed(now) || c.admits(now) || c.admits(now+cutOffPause-1) {
		t.Fatalf("the candidate is not cut off after %d failures in a row", cutOffAfter)
	}

	now += cutOffPause
	if !c.admits(now) || c.admits(now) {
		t.Error("not exactly one request is let through after the pause")
	}
	if c.failed(now) {
		t.Error("the cut-off begins twice")
	}
	if c.admits(now + cutOffPause - 1) {
		t.Error("a failed try does not begin another pause")
	}

	// Whoever tries may never say what came of it: its goroutine may be slow.
	now += cutOffPause
	if !c.admits(now) || c.admits(now+cutOffPause-1) || !c.admits(now+cutOffPause) {
		t.Error("a try without an outcome does not count as a pause")
	}

	if !c.succeeded() || !c.admits(now) || c.succeeded() {
		t.Error("a success does not end the cut-off, once")
	}
	if c.failed(now) || !c.admits(now) {
		t.Error("failures before a success still count")
	}
}
