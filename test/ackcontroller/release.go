// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/test/programs"
)

// Build is a build of the controller.
type Build struct {
	variable, path, target string
}

var (
	// Quick polls every second instead of every 30 seconds.
	Quick = Build{variable: "ACK_1S", path: "ack-1s/controller", target: "ack"}
	// Released is the released code without a change.
	Released = Build{variable: "ACK", path: "ack/controller", target: "ack-released"}
)

// Program returns the executable.
func (b Build) Program() (string, error) {
	program, err := programs.Find(b.variable, b.path)
	if err != nil {
		return "", fmt.Errorf("%w: run make %s", err, b.target)
	}
	return program, nil
}

// Module is the Go module of the controller.
const Module = "github.com/aws-controllers-k8s/elasticache-controller"

// Dir returns the directory of the controller's module, in the version that hack/tools/ack
// builds.
func Dir(ctx context.Context) (string, error) {
	root, err := programs.Root()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", Module)
	cmd.Dir = filepath.Join(root, "hack", "tools", "ack")
	output, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	dir := string(bytes.TrimSpace(output))
	if err == nil && dir == "" {
		err = errors.New("it is not in the module cache: run make ack")
	}
	if err != nil {
		return "", fmt.Errorf("finding the module %s: %w", Module, err)
	}
	return dir, nil
}

// InstallCRDs installs all CRDs of the controller's module and waits until they are
// served.
func InstallCRDs(ctx context.Context, config *rest.Config) error {
	dir, err := Dir(ctx)
	if err != nil {
		return err
	}
	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{
		Paths: []string{
			filepath.Join(dir, "config", "crd", "bases"),
			filepath.Join(dir, "config", "crd", "common", "bases"),
		},
		ErrorIfPathMissing: true,
	})
	if err != nil {
		return fmt.Errorf("installing ACK's CRDs: %w", err)
	}
	return nil
}
