// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgrestest

import "syscall"

// attributes make a server run as account, nil for our own, and end with the
// test process, also if that is killed.
func attributes(account *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: account, Pdeathsig: syscall.SIGQUIT}
}
