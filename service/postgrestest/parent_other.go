// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package postgrestest

import "syscall"

// processAttributes makes a server run as account, nil for the current one. On
// this platform it only ends with its test.
func processAttributes(account *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: account}
}
