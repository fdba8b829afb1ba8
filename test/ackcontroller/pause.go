// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller

import (
	"fmt"
	"syscall"
)

// Pause stops the controller from doing anything, as if it hung, until Resume.
func (c *Controller) Pause() error { return c.signal(syscall.SIGSTOP) }

// Resume ends a Pause. Without one it does nothing.
func (c *Controller) Resume() error { return c.signal(syscall.SIGCONT) }

func (c *Controller) signal(s syscall.Signal) error {
	if err := c.process.Cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("sending %s to ACK: %w", s, err)
	}
	return nil
}
