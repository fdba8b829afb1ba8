// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package supplychain

import (
	"os"
	"os/exec"
	"syscall"
)

// contain has a command see root alone, as the user of the images. Unless the test is run
// by root, this takes a user namespace.
func contain(command *exec.Cmd, root string) {
	const user = 65532
	attributes := &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user, NoSetGroups: true}}
	if os.Geteuid() != 0 {
		attributes.Cloneflags = syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getegid(), Size: 1}}
	}
	command.SysProcAttr = attributes
}
