// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
)

// printer writes the demo's output: on a terminal with colors and status lines that are
// redrawn in place, otherwise line by line.
type printer struct {
	out io.Writer
	// terminal is the width of the terminal, 0 if the output is none.
	terminal int
	colors   bool
	// displayed are the status lines of the last update.
	displayed []string
}

func newPrinter(out *os.File) *printer {
	t := &printer{out: out}
	if width, _, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		t.terminal = width
		t.colors = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return t
}

// Color codes (ECMA-48, "select graphic rendition").
const (
	bold  = "1"
	faint = "2"
	green = "32"
)

func (t *printer) paint(code, text string) string {
	if !t.colors {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// section prints the title of a step.
func (t *printer) section(format string, args ...any) {
	fmt.Fprintf(t.out, "\n%s\n", t.paint(bold, "▸ "+fmt.Sprintf(format, args...)))
}

// print prints a line.
func (t *printer) print(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s\n", fmt.Sprintf(format, args...))
}

// detail prints a less important line.
func (t *printer) detail(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s\n", t.paint(faint, fmt.Sprintf(format, args...)))
}

// command prints a shell command.
func (t *printer) command(format string, args ...any) {
	t.detail("$ "+format, args...)
}

// success prints the outcome of a step.
func (t *printer) success(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s %s\n", t.paint(green, "✔"), fmt.Sprintf(format, args...))
}

// update shows status lines. On a terminal they replace the previous ones; otherwise only
// lines that are new are printed, with the time.
func (t *printer) update(lines []string, since time.Duration) {
	if t.terminal == 0 {
		for _, line := range lines {
			if !slices.Contains(t.displayed, line) {
				fmt.Fprintf(t.out, "  %6.1fs  %s\n", since.Seconds(), line)
			}
		}
		t.displayed = lines
		return
	}
	if slices.Equal(lines, t.displayed) {
		return // avoids flicker
	}
	var text strings.Builder
	if len(t.displayed) > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\x1b[J", len(t.displayed))
	}
	for _, line := range lines {
		fmt.Fprintln(&text, "    "+t.paintMark(truncate(line, t.terminal-5)))
	}
	fmt.Fprint(t.out, text.String())
	t.displayed = lines
}

// paintMark colors a line according to its mark.
func (t *printer) paintMark(line string) string {
	switch {
	case strings.HasPrefix(line, markGood):
		return t.paint(green, markGood) + strings.TrimPrefix(line, markGood)
	case strings.HasPrefix(line, markNone):
		return t.paint(faint, line)
	default:
		return line
	}
}

// endUpdates keeps the status lines on the terminal, so that further output follows below
// them. Without a terminal, the next update still prints only what has changed.
func (t *printer) endUpdates() {
	if t.terminal > 0 {
		t.displayed = nil
	}
}

// truncate cuts a line to a width, because a wrapped line cannot be redrawn.
func truncate(line string, width int) string {
	runes := []rune(line)
	if len(runes) <= width || width < 1 {
		return line
	}
	return string(runes[:width-1]) + "…"
}
