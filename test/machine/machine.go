// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package machine describes the machine that a benchmark runs on and the resource usage
// of its processes.
package machine

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine describes the hardware and software of a measurement.
type Machine struct {
	// CPU is the model name.
	CPU   string
	Cores int
	// Memory in bytes.
	Memory uint64
	Go     string
	OS     string
}

// This returns the machine that this process runs on.
func This() (Machine, error) {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	cpu, err := readFields("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	if name := cpu["model name"]; name != "" {
		m.CPU = name
	}
	memory, err := readFields("/proc/meminfo")
	if err != nil {
		return m, err
	}
	m.Memory, err = kibibytes(memory["MemTotal"])
	return m, err
}

// readFields reads a file with lines of the form "name: value". The first line with a
// name counts.
func readFields(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading from /proc: %w", err)
	}
	defer file.Close()
	fields := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); ok && fields[name] == "" {
			fields[name] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return fields, nil
}

// kibibytes reads the kernel's "1234 kB" as bytes.
func kibibytes(text string) (uint64, error) {
	var n uint64
	if _, err := fmt.Sscanf(text, "%d kB", &n); err != nil {
		return 0, fmt.Errorf("reading %q as a size: %w", text, err)
	}
	return n << 10, nil
}
