// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cluster

import "syscall"

// endWithParent leaves the process as it is: kube says that it runs on Linux
// only, and ends.
func endWithParent() *syscall.SysProcAttr { return nil }
