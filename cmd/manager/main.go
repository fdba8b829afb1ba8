// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command manager is the FlagCache operator.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"go.uber.org/zap/zapcore"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// version is set by the build.
var version = "dev"

func main() {
	o, err := parseOptions(os.Args[1:], os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		fmt.Fprintf(os.Stderr, "manager: %v\n", err)
		os.Exit(2)
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.log), func(z *zap.Options) { z.TimeEncoder = zapcore.RFC3339TimeEncoder }))
	if o.heapLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(o.heapLimit)
	}
	ctrl.Log.Info("Starting the FlagCache operator", "version", version, "namespaces", o.namespaces, "memoryLimit", debug.SetMemoryLimit(-1))
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		ctrl.Log.Error(err, "Running the operator failed")
		os.Exit(1)
	}
}
