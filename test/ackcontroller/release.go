// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller

import (
	"context"
	"fmt"
	"path/filepath"

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
	return programs.Module(ctx, filepath.Join("hack", "tools", "ack"), Module)
}
