// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/printable"
)

// standardInput is the file name for standard input.
const standardInput = "-"

// lint prints the problems in flag files, one per line in the format of
// compilers, which editors and CI understand:
//
//	flags.json:12:9: flag "checkout": flags.checkout.defaultVariant: "blue" is not one of the variants
//
// Control characters of the files are escaped. It returns the exit status, which is a
// failure if there are problems or unreadable files.
func lint(paths []string, stdin io.Reader, stdout, stderr io.Writer) int {
	stdout, stderr = printable.Writer{To: stdout}, printable.Writer{To: stderr}
	status := exitOK
	for _, path := range paths {
		data, err := readFlags(path, stdin)
		var unusable *flags.DocumentError
		if err != nil && !errors.As(err, &unusable) {
			fmt.Fprintln(stderr, "flag-service:", err)
			status = exitFailure
			continue
		}
		if path == standardInput {
			path = "<stdin>"
		}
		if unusable != nil {
			reportUnusable(path, unusable, stdout)
			status = exitFailure
			continue
		}
		if !report(path, data, stdout) {
			status = exitFailure
		}
	}
	return status
}

// maxMeasured is the size up to which a document that is too large is measured.
const maxMeasured = 1 << 30

// readFlags reads a file. One over the size limit is only measured, and the error
// is a *flags.DocumentError.
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
	if len(data) > flags.MaxSize {
		rest, err := io.Copy(io.Discard, io.LimitReader(stdin, maxMeasured))
		if err != nil {
			return nil, fmt.Errorf("reading flags from %s: %w", path, err)
		}
		return nil, flags.TooLarge(int64(len(data)) + rest)
	}
	return data, nil
}

// report prints the problems of a document and reports whether there are none.
func report(path string, data []byte, to io.Writer) bool {
	set, problems, err := flags.Parse(data)
	var unusable *flags.DocumentError
	if errors.As(err, &unusable) {
		reportUnusable(path, unusable, to)
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

// reportUnusable prints why a document is unusable.
func reportUnusable(path string, unusable *flags.DocumentError, to io.Writer) {
	fmt.Fprintf(to, "%s:%d:%d: %s\n", path, unusable.Line, unusable.Column, unusable.Message)
}
