// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"context"
	"testing"
	"time"
)

func TestSleepEndsWithTheContext(t *testing.T) {
	if !Sleep(t.Context(), time.Millisecond) {
		t.Error("the sleep was interrupted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Sleep(ctx, time.Hour) {
		t.Error("the sleep was not interrupted")
	}
}

func TestJitterStaysWithinItsFraction(t *testing.T) {
	for range 1000 {
		if d := Jitter(time.Second, 0.25); d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Fatalf("a second with a jitter of a quarter is %s", d)
		}
	}
	if d := Jitter(0, 0.5); d != 0 {
		t.Errorf("nothing with jitter is %s", d)
	}
}
