// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package printable makes texts that others wrote fit for conditions, events, logs and
// terminals: a control character moves the cursor or renames the window, a line break
// forges a line, and the API server refuses a text that is too long.
package printable

import (
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits in bytes.
const (
	// MaxMessage of a condition, and of any other text in a status.
	MaxMessage = 1024
	// MaxNote of an event: the API server refuses longer ones.
	MaxNote = 1024
)

// cutMark ends a text that was cut.
const cutMark = "… (cut)"

// Text returns a text in one line of at most limit bytes, with control characters and
// invisible ones escaped as in Go, such as \x1b. A text that does not fit ends in a mark;
// limit must exceed its length.
func Text(s string, limit int) string {
	if len(s) <= limit && isPlain(s) {
		return s
	}
	var text strings.Builder
	end := 0 // of what fits together with the mark
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		piece := escape(s[:size], r)
		if text.Len()+len(piece) > limit {
			return text.String()[:end] + cutMark
		}
		text.WriteString(piece)
		if text.Len() <= limit-len(cutMark) {
			end = text.Len()
		}
		s = s[size:]
	}
	return text.String()
}

// isPlain reports whether a text has nothing to escape.
func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// escape returns one encoded rune as it is printed.
func escape(encoded string, r rune) string {
	invalid := r == utf8.RuneError && len(encoded) == 1
	switch {
	case r == '\n', r == '\r', r == '\t':
		return " "
	case !invalid && unicode.IsPrint(r):
		return encoded
	}
	quoted := strconv.Quote(encoded)
	return quoted[1 : len(quoted)-1]
}

// Writer escapes what is written to a terminal, except for line breaks and tabs.
type Writer struct {
	// To is the terminal.
	To io.Writer
}

// Write implements io.Writer.
func (w Writer) Write(p []byte) (int, error) {
	var text strings.Builder
	for rest := string(p); len(rest) > 0; {
		r, size := utf8.DecodeRuneInString(rest)
		if r == '\n' || r == '\t' {
			text.WriteRune(r)
		} else {
			text.WriteString(escape(rest[:size], r))
		}
		rest = rest[size:]
	}
	if _, err := io.WriteString(w.To, text.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}
