// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTicks is the number of CPU time units in /proc per second (USER_HZ).
const clockTicks = 100

// Usage is the resource usage of a process as reported by the kernel.
type Usage struct {
	// CPU is user and system time since its start.
	CPU time.Duration
	// RSS is the resident memory in bytes, PeakRSS its maximum since the start.
	RSS, PeakRSS uint64
}

// UsageOf returns the usage of a process until now.
func UsageOf(pid int) (Usage, error) {
	var u Usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("reading from /proc: %w", err)
	}
	if u.CPU, err = cpuTime(string(stat)); err != nil {
		return u, err
	}
	status, err := readFields(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	if u.RSS, err = kibibytes(status["VmRSS"]); err != nil {
		return u, err
	}
	u.PeakRSS, err = kibibytes(status["VmHWM"])
	return u, err
}

// cpuTime reads user and system time from /proc/PID/stat. The program's name,
// field 2, is in parentheses and may contain any character.
func cpuTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const user, system = 14 - 3, 15 - 3 // the rest begins with field 3
	if len(fields) <= system {
		return 0, fmt.Errorf("reading %q: fields are missing", stat)
	}
	ticks := 0
	for _, text := range []string{fields[user], fields[system]} {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("reading %q as CPU time: %w", text, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}
