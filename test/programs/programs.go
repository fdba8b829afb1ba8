// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package programs finds the repository, and the programs that make has built in it.
package programs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Root returns the repository's root: the nearest directory with a go.mod at or above the
// working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("finding the repository: no go.mod at or above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Find returns the absolute path of a program: the one in an environment variable, which
// make sets, or else the one at a path in the repository's bin.
func Find(variable, path string) (string, error) {
	program := os.Getenv(variable)
	if program == "" {
		root, err := Root()
		if err != nil {
			return "", err
		}
		program = filepath.Join(root, "bin", path)
	}
	found, err := exec.LookPath(program)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return "", fmt.Errorf("%s (variable %s) not found", program, variable)
	}
	return found, nil
}
