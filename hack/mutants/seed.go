// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// mutant is a patch, applied to copies of the files that it changes.
type mutant struct {
	name, patch string
	// files has the changed sources by their paths in the repository.
	files map[string][]byte
}

// seed applies a patch to copies of the operator's files.
func seed(name, patch string) (mutant, error) {
	m := mutant{name: name, patch: patch, files: map[string][]byte{}}
	text, err := os.ReadFile(patch)
	if err != nil {
		return m, fmt.Errorf("reading the mutant: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return m, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	paths := patched(text)
	for _, path := range paths {
		if err := copyFile(path, filepath.Join(dir, path)); err != nil {
			return m, err
		}
	}
	apply := exec.Command("git", "apply", "-C1", "-")
	apply.Dir, apply.Stdin = dir, bytes.NewReader(text)
	if output, err := apply.CombinedOutput(); err != nil {
		return m, fmt.Errorf("the patch does not apply and has to be rewritten: %s", bytes.TrimSpace(output))
	}
	for _, path := range paths {
		if m.files[path], err = os.ReadFile(filepath.Join(dir, path)); err != nil {
			return m, fmt.Errorf("reading the seeded file: %w", err)
		}
	}
	return m, nil
}

// patched returns the files that a patch changes.
func patched(patch []byte) []string {
	var paths []string
	for _, match := range regexp.MustCompile(`(?m)^\+\+\+ b/(.+)$`).FindAllSubmatch(patch, -1) {
		paths = append(paths, string(match[1]))
	}
	return paths
}

// build builds the test binary with an overlay of changed sources.
func build(files map[string][]byte, binary string) error {
	dir, err := os.MkdirTemp("", "overlay-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	replace := map[string]string{}
	for path, text := range files {
		original, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		replace[original] = filepath.Join(dir, path)
		if err := writeFile(replace[original], text); err != nil {
			return err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	if output, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", file, "-o", binary, target).CombinedOutput(); err != nil {
		return fmt.Errorf("building the mutant: %s", bytes.TrimSpace(output))
	}
	return nil
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("reading a file that the mutant changes: %w", err)
	}
	return writeFile(to, text)
}

func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
