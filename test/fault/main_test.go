// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"os"
	"runtime/debug"
	"testing"
)

func TestMain(m *testing.M) {
	// Worlds are many and short-lived: collecting them less often is faster.
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
