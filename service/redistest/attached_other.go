// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package redistest

import "syscall"

// attached would make a server end with the test process; here it ends with the
// test alone.
func attached() *syscall.SysProcAttr { return nil }
