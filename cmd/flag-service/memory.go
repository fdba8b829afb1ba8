// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// collectPercent is how much may be allocated before memory is collected, in
	// percent of what is in use: of that a flag service has a few MiB, and
	// collecting as often as usual takes a tenth of its time.
	collectPercent = 400
	// limitShare is the part of a container's memory, in percent, from which on
	// memory is collected as often as it takes to stay below.
	limitShare = 80
	// cgroupLimit is the file that says how much memory the container may take.
	cgroupLimit = "/sys/fs/cgroup/memory.max"
)

// tuneMemory lets the process take more memory and less time. What Go's own
// variables say of either stands.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// Where there is no such file there is no limit.
		text, _ := os.ReadFile(cgroupLimit)
		debug.SetMemoryLimit(memoryLimit(string(text)))
	}
}

// memoryLimit is the limit for Go's memory, in bytes, by the container's.
func memoryLimit(cgroup string) int64 {
	most, err := strconv.ParseInt(strings.TrimSpace(cgroup), 10, 64)
	if err != nil || most <= 0 {
		return math.MaxInt64
	}
	return most / 100 * limitShare
}
