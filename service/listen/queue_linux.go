// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import "golang.org/x/sys/unix"

// unacknowledged returns the bytes in a socket's send queue that the peer has not
// acknowledged, see tcp(7).
func unacknowledged(fd uintptr) int {
	bytes, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return bytes
}
