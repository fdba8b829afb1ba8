// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package ackplayer

import "syscall"

// endWithParent would have the kernel end a server when the player is gone; here
// it ends when the player stops in order.
func endWithParent() *syscall.SysProcAttr { return nil }
