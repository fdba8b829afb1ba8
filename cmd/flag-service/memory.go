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
	// gcPercent is the value of GOGC. The live heap of a flag service is a few MiB,
	// and the default of 100 would spend a tenth of its CPU time on garbage
	// collection.
	gcPercent = 400
	// limitPercent is the value of GOMEMLIMIT in percent of the container's memory
	// limit.
	limitPercent = 80
	// cgroupLimit is the file with the container's memory limit.
	cgroupLimit = "/sys/fs/cgroup/memory.max"
)

// tuneMemory configures the garbage collector to use more memory and less CPU.
// GOGC and GOMEMLIMIT take precedence.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// Without the file there is no limit.
		text, _ := os.ReadFile(cgroupLimit)
		debug.SetMemoryLimit(memoryLimit(string(text)))
	}
}

// memoryLimit returns the limit of Go's memory in bytes for the container's
// limit.
func memoryLimit(cgroup string) int64 {
	limit, err := strconv.ParseInt(strings.TrimSpace(cgroup), 10, 64)
	if err != nil || limit <= 0 {
		return math.MaxInt64
	}
	return limit / 100 * limitPercent
}
