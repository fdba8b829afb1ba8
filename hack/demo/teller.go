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

// teller tells the story: to a person at a terminal with colours and pictures
// that are redrawn in place, to a pipe line by line.
type teller struct {
	out io.Writer
	// terminal is the width of the terminal, 0 for a pipe.
	terminal int
	colours  bool
	// drawn are the lines of the picture that is being redrawn.
	drawn []string
}

func newTeller(out *os.File) *teller {
	t := &teller{out: out}
	if width, _, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		t.terminal = width
		t.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return t
}

// Codes of colours (ECMA-48, "select graphic rendition").
const (
	bold  = "1"
	faint = "2"
	green = "32"
)

func (t *teller) paint(code, text string) string {
	if !t.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// chapter begins a part of the story.
func (t *teller) chapter(format string, args ...any) {
	fmt.Fprintf(t.out, "\n%s\n", t.paint(bold, "▸ "+fmt.Sprintf(format, args...)))
}

// say tells something.
func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s\n", fmt.Sprintf(format, args...))
}

// aside tells something of less weight.
func (t *teller) aside(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s\n", t.paint(faint, fmt.Sprintf(format, args...)))
}

// command tells what a person would type.
func (t *teller) command(format string, args ...any) {
	t.aside("$ "+format, args...)
}

// came tells that something came true.
func (t *teller) came(format string, args ...any) {
	fmt.Fprintf(t.out, "  %s %s\n", t.paint(green, "✔"), fmt.Sprintf(format, args...))
}

// draw shows a picture. On a terminal it takes the place of the one before; on a
// pipe only the lines that were not in the one before are printed, with the time.
func (t *teller) draw(picture []string, since time.Duration) {
	if t.terminal == 0 {
		for _, line := range picture {
			if !slices.Contains(t.drawn, line) {
				fmt.Fprintf(t.out, "  %6.1fs  %s\n", since.Seconds(), line)
			}
		}
		t.drawn = picture
		return
	}
	if slices.Equal(picture, t.drawn) {
		return // nothing flickers that does not change
	}
	var text strings.Builder
	if len(t.drawn) > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\x1b[J", len(t.drawn))
	}
	for _, line := range picture {
		fmt.Fprintln(&text, "    "+t.paintMark(cut(line, t.terminal-5)))
	}
	fmt.Fprint(t.out, text.String())
	t.drawn = picture
}

// paintMark gives a line the colour that its mark stands for.
func (t *teller) paintMark(line string) string {
	switch {
	case strings.HasPrefix(line, markGood):
		return t.paint(green, markGood) + strings.TrimPrefix(line, markGood)
	case strings.HasPrefix(line, markNone):
		return t.paint(faint, line)
	default:
		return line
	}
}

// drop ends a picture: what is told next follows below it. A pipe goes on from
// it, so that the next picture is told by what is different.
func (t *teller) drop() {
	if t.terminal > 0 {
		t.drawn = nil
	}
}

// cut shortens a line to a width, because a wrapped line cannot be redrawn.
func cut(line string, width int) string {
	letters := []rune(line)
	if len(letters) <= width || width < 1 {
		return line
	}
	return string(letters[:width-1]) + "…"
}
