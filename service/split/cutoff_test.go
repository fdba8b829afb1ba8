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
		if c.failed(now) || !c.allows(now) {
			t.Fatalf("the candidate is cut off after %d failures", i+1)
		}
	}
	if !c.failed(now) || c.allows(now) || c.allows(now+cutOffPause-1) {
		t.Fatalf("the candidate is not cut off after %d consecutive failures", cutOffAfter)
	}

	now += cutOffPause
	if !c.allows(now) || c.allows(now) {
		t.Error("not exactly one request is allowed after the pause")
	}
	if c.failed(now) {
		t.Error("the cut-off begins twice")
	}
	if c.allows(now + cutOffPause - 1) {
		t.Error("a failed attempt does not start another pause")
	}

	// An attempt may never report its result: its goroutine may be slow.
	now += cutOffPause
	if !c.allows(now) || c.allows(now+cutOffPause-1) || !c.allows(now+cutOffPause) {
		t.Error("an attempt without a result does not start a pause")
	}

	if !c.succeeded() || !c.allows(now) || c.succeeded() {
		t.Error("a success does not end the cut-off, once")
	}
	if c.failed(now) || !c.allows(now) {
		t.Error("failures before a success still count")
	}
}
