// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package redistest

import "syscall"

// endWithParent makes a server end with the test process, even if that is
// killed.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
