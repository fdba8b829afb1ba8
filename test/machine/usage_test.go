// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"testing"
	"time"
)

func TestCPUTime(t *testing.T) {
	stat := "4711 (a (strange) name) S 1 4711 4711 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 8 0 1 1 1"
	got, err := cpuTime(stat)
	if err != nil || got != 2*time.Second {
		t.Errorf("CPU time %s, %v; want 2s", got, err)
	}
	if _, err := cpuTime("4711 (name) S 1"); err == nil {
		t.Error("a truncated line was accepted")
	}
}
