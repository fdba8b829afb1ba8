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
	p := &printer{out: out}
	if width, _, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		p.terminal = width
		p.colors = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return p
}

// Color codes (ECMA-48, "select graphic rendition").
const (
	bold  = "1"
	faint = "2"
	green = "32"
)

func (p *printer) paint(code, text string) string {
	if !p.colors {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// section prints the title of a step.
func (p *printer) section(format string, args ...any) {
	fmt.Fprintf(p.out, "\n%s\n", p.paint(bold, "▸ "+fmt.Sprintf(format, args...)))
}

// print prints a line.
func (p *printer) print(format string, args ...any) {
	fmt.Fprintf(p.out, "  %s\n", fmt.Sprintf(format, args...))
}

// detail prints a less important line.
func (p *printer) detail(format string, args ...any) {
	fmt.Fprintf(p.out, "  %s\n", p.paint(faint, fmt.Sprintf(format, args...)))
}

// command prints a shell command.
func (p *printer) command(format string, args ...any) {
	p.detail("$ "+format, args...)
}

// success prints the outcome of a step.
func (p *printer) success(format string, args ...any) {
	fmt.Fprintf(p.out, "  %s %s\n", p.paint(green, "✔"), fmt.Sprintf(format, args...))
}

// update shows status lines. On a terminal they replace the previous ones; otherwise only
// lines that are new are printed, with the time.
func (p *printer) update(lines []string, since time.Duration) {
	if p.terminal == 0 {
		for _, line := range lines {
			if !slices.Contains(p.displayed, line) {
				fmt.Fprintf(p.out, "  %6.1fs  %s\n", since.Seconds(), line)
			}
		}
		p.displayed = lines
		return
	}
	if slices.Equal(lines, p.displayed) {
		return // avoids flicker
	}
	var text strings.Builder
	if len(p.displayed) > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\x1b[J", len(p.displayed))
	}
	for _, line := range lines {
		fmt.Fprintln(&text, "    "+p.paintMark(truncate(line, p.terminal-5)))
	}
	fmt.Fprint(p.out, text.String())
	p.displayed = lines
}

// paintMark colors a line according to its mark.
func (p *printer) paintMark(line string) string {
	switch {
	case strings.HasPrefix(line, markGood):
		return p.paint(green, markGood) + strings.TrimPrefix(line, markGood)
	case strings.HasPrefix(line, markNone):
		return p.paint(faint, line)
	default:
		return line
	}
}

// endUpdates keeps the status lines on the terminal, so that further output follows below
// them. Without a terminal, the next update still prints only what has changed.
func (p *printer) endUpdates() {
	if p.terminal > 0 {
		p.displayed = nil
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
