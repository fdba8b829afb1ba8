// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgrestest

import "syscall"

// processAttributes makes a server run as account, nil for the current one, and
// end with the test process, even if that is killed.
func processAttributes(account *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: account, Pdeathsig: syscall.SIGQUIT}
}
