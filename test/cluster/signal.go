// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Signal sends a signal to the processes of a program in the cluster, and fails if there
// are none.
func (c *Cluster) Signal(program string, signal syscall.Signal) error {
	pids, err := c.Processes(program)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			return fmt.Errorf("sending %v to %s (process %d): %w", signal, program, pid, err)
		}
	}
	if len(pids) == 0 {
		return fmt.Errorf("sending %v to %s: the cluster has no such process", signal, program)
	}
	return nil
}

// Processes returns the PIDs of a program in the cluster: those that run a file of this name,
// or were started by it, as the components of the control plane are, which are one file.
func (c *Cluster) Processes(program string) ([]int, error) {
	all, err := readProcesses()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, pid := range all.descendants(c.process.cmd.Process.Pid) {
		if all[pid].program == program || all[pid].startedAs == program {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// processes are all processes of this machine, keyed by PID.
type processes map[int]struct {
	parent    int
	program   string
	startedAs string
}

// readProcesses reads /proc. Processes that end in the meantime are left out.
func readProcesses() (processes, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	all := processes{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// "1234 (program) S 1 ...", where the program's name may contain any character.
		before, after, _ := strings.Cut(string(text), "(")
		end := strings.LastIndex(after, ")")
		if before == "" || end < 0 {
			continue
		}
		process := all[pid]
		process.program = after[:end]
		fields := strings.Fields(after[end+1:])
		if len(fields) < 2 || fields[0] == "Z" {
			continue // it has ended and is still to be reaped
		}
		process.parent, _ = strconv.Atoi(fields[1])
		command, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(string(command), "\x00")
		process.startedAs = filepath.Base(name)
		all[pid] = process
	}
	return all, nil
}

// descendants returns the direct and indirect children of a process.
func (p processes) descendants(ancestor int) []int {
	var found []int
	for pid := range p {
		for parent := p[pid].parent; parent > 0; parent = p[parent].parent {
			if parent == ancestor {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}
