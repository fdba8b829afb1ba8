// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package child

import "syscall"

// Attributes puts a process into a process group of its own and has the kernel send
// it the signal when the thread that started it ends.
func Attributes(signal syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: signal}
}
