// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"
)

// teller tells a person how far the benchmark is.
type teller struct {
	out   io.Writer
	start time.Time
}

func newTeller(out io.Writer) teller { return teller{out: out, start: time.Now()} }

// say prints a line with the time since the start.
func (t teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, "%5.0fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}
