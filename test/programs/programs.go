// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package programs finds the repository, the Go modules that it depends on, and the
// programs that make has built in it.
package programs

import (
	"bytes"
	"context"
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

// Module returns the directory of a Go module, in the version that the module at a
// directory of the repository requires; that is "." for the repository's own.
func Module(ctx context.Context, at, module string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = filepath.Join(root, at)
	output, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	dir := string(bytes.TrimSpace(output))
	if err == nil && dir == "" {
		err = errors.New("it is not in the module cache: run go mod download")
	}
	if err != nil {
		return "", fmt.Errorf("finding the module %s: %w", module, err)
	}
	return dir, nil
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
