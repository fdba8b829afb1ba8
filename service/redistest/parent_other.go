// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package redistest

import "syscall"

// endWithParent does nothing on this platform: a server only ends with its
// test.
func endWithParent() *syscall.SysProcAttr { return nil }
