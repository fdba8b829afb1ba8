// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package chaos

import (
	"io"
	"syscall"
	"testing"
)

// attached would make an instance end with the test process; here it ends with
// the test alone.
func attached() *syscall.SysProcAttr { return nil }

// shrink would make a pipe small; here its size is the system's.
func shrink(testing.TB, io.Reader) {}
