// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source"
)

// lint prints what is wrong with a file of flags, a line for each problem, and
// exits with 1 if there is anything.
func lint(path string, stdout, stderr io.Writer) int {
	read, err := source.ReadFile(path, flags.MaxSize)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "flag-service:", err)
		return exitFailure
	}
	set, problems, err := flags.Parse(read.Data)
	if err != nil {
		_, _ = fmt.Fprintf(stdout, "%s: %s\n", path, err)
		return exitFailure
	}
	for _, problem := range problems {
		_, _ = fmt.Fprintf(stdout, "%s:%d:%d: %s: %s\n", path, problem.Line, problem.Column, problem.Path, problem.Message)
	}
	if len(problems) > 0 {
		return exitFailure
	}
	_, _ = fmt.Fprintf(stdout, "%s: %d flags, no problems\n", path, set.Len())
	return exitOK
}
