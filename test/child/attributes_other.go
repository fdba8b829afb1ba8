// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package child

import "syscall"

// Attributes puts a process into a process group of its own. Only Linux can signal it
// when its parent ends.
func Attributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
