// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Down is "kube down": it stops the cluster and returns when all its processes have
// exited. It is not an error if none is running.
func Down(args []string) error {
	dir, _, err := parseDir("down", args)
	if err != nil {
		return err
	}
	pid, err := dir.runningPID()
	if err != nil {
		return err
	}
	if ended, err := dir.ended(); ended || err != nil {
		return err
	}
	if err := end(dir, pid, syscall.SIGTERM, 20*time.Second); err == nil {
		return nil
	}
	return end(dir, pid, syscall.SIGKILL, 20*time.Second)
}

// ended reports whether all processes of the cluster have exited.
func (d directory) ended() (bool, error) {
	lock, err := d.lock()
	if errors.Is(err, errLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lock.Close()
	return true, nil
}

// end signals the cluster's process and waits for the end of the cluster.
func end(dir directory, pid int, signal syscall.Signal, limit time.Duration) error {
	if pid != 0 {
		// It may have exited already, which the loop below detects.
		_ = syscall.Kill(pid, signal)
	}
	err := poll(context.Background(), limit, func(context.Context) error {
		ended, err := dir.ended()
		if err != nil {
			return final{err}
		}
		if !ended {
			return errLocked
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ending the cluster in %s (process %d): %w", dir, pid, err)
	}
	return nil
}
