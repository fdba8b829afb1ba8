// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// shrink makes a pipe as small as it can be, so that it is soon full.
func shrink(t testing.TB, pipe io.Reader) {
	t.Helper()
	if _, err := unix.FcntlInt(pipe.(*os.File).Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatalf("making a pipe small: %v", err)
	}
}
