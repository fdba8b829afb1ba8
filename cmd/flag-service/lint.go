// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/flagcache/flagcache/service/flags"
)

// standardInput is the name by which lint reads from its standard input.
const standardInput = "-"

// lint prints what is wrong with files of flags, a line for each problem that
// begins as a compiler's does, so that editors and CI find the place:
//
//	flags.json:12:9: flag "checkout": flags.checkout.defaultVariant: "blue" is not one of the variants
//
// It returns the exit status: failure if there is a problem, or a file that cannot
// be read.
func lint(paths []string, stdin io.Reader, stdout, stderr io.Writer) int {
	status := exitOK
	for _, path := range paths {
		data, err := readFlags(path, stdin)
		if err != nil {
			fmt.Fprintln(stderr, "flag-service:", err)
			status = exitFailure
			continue
		}
		if path == standardInput {
			path = "<stdin>"
		}
		if !report(path, data, stdout) {
			status = exitFailure
		}
	}
	return status
}

// readFlags reads no more of a file than shows that it is too large.
func readFlags(path string, stdin io.Reader) ([]byte, error) {
	if path != standardInput {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("reading flags: %w", err)
		}
		defer file.Close()
		stdin = file
	}
	data, err := io.ReadAll(io.LimitReader(stdin, flags.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading flags from %s: %w", path, err)
	}
	return data, nil
}

// report prints what is wrong with a document and says whether it is fine.
func report(path string, data []byte, to io.Writer) bool {
	set, problems, err := flags.Parse(data)
	var useless *flags.DocumentError
	if errors.As(err, &useless) {
		fmt.Fprintf(to, "%s:%d:%d: %s\n", path, useless.Line, useless.Column, useless.Message)
		return false
	}
	for _, problem := range problems {
		fmt.Fprintf(to, "%s:%d:%d: %s\n", path, problem.Line, problem.Column, problem.Description())
	}
	if len(problems) == 0 {
		fmt.Fprintf(to, "%s: %d flags, no problems\n", path, set.Len())
	}
	return len(problems) == 0
}
