// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package redistest

import "syscall"

// attached makes a server end with the test process, also if that is killed.
func attached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
