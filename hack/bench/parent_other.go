// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "syscall"

// endWithParent leaves the process as it is: the local cluster runs on Linux
// only, and says so before anything else is started.
func endWithParent() *syscall.SysProcAttr { return nil }
