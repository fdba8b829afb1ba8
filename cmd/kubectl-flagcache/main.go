// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-flagcache explains what the operator decided. As kubectl's
// plugin it is called kubectl flagcache.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/flagcache/flagcache/service/printable"
)

// Exit statuses.
const (
	exitOK = iota
	// exitContradiction: the recomputed verdict contradicts the recorded outcome.
	exitContradiction
	// exitUsage: there is nothing to explain.
	exitUsage
)

const usage = `kubectl flagcache explain recomputes the verdict on a revision from the record that the operator kept.

Usage:
  kubectl get controllerrevision NAME-REVISION -o yaml | kubectl flagcache explain -f -

It exits with 1 if the verdict contradicts the recorded outcome.

Flags:
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the command with its input and output.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	file := ""
	fs := flag.NewFlagSet("kubectl flagcache", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&file, "f", "", "`FILE` with a ControllerRevision in YAML or JSON, or with a record; - is the standard input")
	fs.Usage = func() { _, _ = fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	if len(args) == 0 || args[0] != "explain" {
		fs.Usage()
		return exitUsage
	}
	if err := fs.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	if file == "" || fs.NArg() > 0 {
		fs.Usage()
		return exitUsage
	}
	// What a record says was written by others, too.
	stdout, stderr = printable.Writer{To: stdout}, printable.Writer{To: stderr}
	record, err := read(file, stdin)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "kubectl flagcache:", err)
		return exitUsage
	}
	if !explain(stdout, record) {
		return exitContradiction
	}
	return exitOK
}
