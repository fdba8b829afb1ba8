// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package page writes docs/benchmarks.md and formats its figures. Each benchmark owns one
// section of the page, from its heading to the next.
package page

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Write writes a section to the page at path. It replaces the section with the same
// heading, or else is appended. A section begins with its heading, a line "# ...".
func Write(path, part string) error {
	page, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the benchmarks page: %w", err)
	}
	if err := os.WriteFile(path, []byte(replace(string(page), part)), 0o644); err != nil {
		return fmt.Errorf("writing the benchmarks page: %w", err)
	}
	return nil
}

func replace(page, part string) string {
	part = strings.TrimRight(part, "\n") + "\n"
	heading, _, _ := strings.Cut(part, "\n")
	var parts []string
	found := false
	for _, old := range split(page) {
		if strings.HasPrefix(old, heading+"\n") {
			old, found = part, true
		}
		parts = append(parts, strings.TrimRight(old, "\n")+"\n")
	}
	if !found {
		parts = append(parts, part)
	}
	return strings.Join(parts, "\n")
}

// split splits a page before each heading.
func split(page string) []string {
	var parts []string
	for line := range strings.Lines(page) {
		if len(parts) == 0 || strings.HasPrefix(line, "# ") {
			parts = append(parts, "")
		}
		parts[len(parts)-1] += line
	}
	return parts
}
