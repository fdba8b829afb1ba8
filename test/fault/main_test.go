// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"os"
	"runtime/debug"
	"testing"
)

func TestMain(m *testing.M) {
	// There are many short-lived Worlds: less frequent garbage collection is faster.
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
