// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import "syscall"

// endWithParent has the kernel end the process when this program is gone. It is
// out of reach of the terminal's Ctrl-C, so that this program decides when it
// ends.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
