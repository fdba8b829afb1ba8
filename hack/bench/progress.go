// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells a person how far the benchmark is.
type progress struct {
	out   io.Writer
	start time.Time
}

func newProgress(out io.Writer) progress { return progress{out: out, start: time.Now()} }

// log prints a line with the time since the start.
func (t progress) log(format string, args ...any) {
	fmt.Fprintf(t.out, "%5.0fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}
