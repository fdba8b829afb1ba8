// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// cores assigns the server and the load generator to CPU cores.
type cores struct{ server, generator int }

// chooseCores returns the first two cores that this process may use.
func chooseCores() (cores, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return cores{}, fmt.Errorf("reading the CPU affinity: %w", err)
	}
	var found []int
	for cpu := 0; len(found) < min(2, allowed.Count()); cpu++ {
		if allowed.IsSet(cpu) {
			found = append(found, cpu)
		}
	}
	if len(found) < 2 {
		return cores{}, errors.New("this benchmark requires two cores: one for the server, one for the load generator")
	}
	return cores{server: found[0], generator: found[1]}, nil
}

// pinThisProcess pins every thread of this process to a core. New threads inherit it.
func pinThisProcess(cpu int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("listing this process's threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("reading a thread's id: %w", err)
		}
		if err := pin(id, cpu); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// startPinned starts a process pinned to a core. A Go program then sees a single CPU.
func startPinned(command *exec.Cmd, cpu int) error {
	// A child inherits the affinity of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("reading the thread's CPU affinity: %w", err)
	}
	if err := pin(0, cpu); err != nil {
		return err
	}
	started := command.Start()
	return errors.Join(started, unix.SchedSetaffinity(0, &before))
}

func pin(thread, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(thread, &set); err != nil {
		return fmt.Errorf("pinning to core %d: %w", cpu, err)
	}
	return nil
}
