// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"
)

// progress prints progress messages.
type progress struct {
	out   io.Writer
	start time.Time
}

func newProgress(out io.Writer) progress { return progress{out: out, start: time.Now()} }

// log prints a message with the time since the start.
func (t progress) log(format string, args ...any) {
	fmt.Fprintf(t.out, "%5.0fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}
