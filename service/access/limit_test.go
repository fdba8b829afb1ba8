// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	limit := NewLimit(2, 3)
	for i := range 3 {
		if wait := Wait(limit, now); wait != 0 {
			t.Errorf("request %d of the burst must wait %s", i+1, wait)
		}
	}
	wait := Wait(limit, now)
	if wait != 500*time.Millisecond {
		t.Errorf("with 2 requests per second the wait is %s", wait)
	}
	if again := Wait(limit, now.Add(wait/2)); again != wait/2 {
		t.Errorf("half of that later the wait is %s", again)
	}
	if after := Wait(limit, now.Add(wait)); after != 0 {
		t.Errorf("after the wait the wait is still %s", after)
	}
}

func TestNoLimit(t *testing.T) {
	limit := NewLimit(0, 0)
	for range 1000 {
		if wait := Wait(limit, time.Time{}); wait != 0 {
			t.Fatalf("without a limit the wait is %s", wait)
		}
	}
}
