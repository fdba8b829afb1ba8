// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package resp validates what a server sends before a Redis client reads it: the client
// allocates whatever a reply announces. It is pure.
package resp

import (
	"errors"
	"strings"
)

// Limits on the replies of a server. The client allocates the size that a reply
// announces before it arrives, for lists at every nesting level, and parses
// nested lists recursively. Valid replies need a small part of these limits.
const (
	maxElements = 4096
	maxDepth    = 16
	maxLine     = 16 << 10
)

// ErrInvalid is the error of replies that are not valid, or exceed a limit.
var ErrInvalid = errors.New("the reply is not valid RESP, or too large")

// Scanner validates the structure and the lengths of a stream of replies.
type Scanner struct {
	// MaxString is the maximum size of a string, MaxTotal of a whole reply, in
	// bytes.
	MaxString, MaxTotal int64

	// open holds the number of outstanding elements of each enclosing list.
	open []int64
	// total is the number of bytes read of the current reply.
	total int64
	// skip is the number of bytes left of the current string.
	skip int64
	// kind is the first byte of the current line, 0 between lines; number and
	// negative are the length that it announces, length its own length.
	kind     byte
	number   int64
	negative bool
	length   int
}

// Scan returns ErrInvalid unless p continues a stream of valid replies within the limits.
func (s *Scanner) Scan(p []byte) error {
	for len(p) > 0 {
		n := int64(1)
		if s.skip > 0 {
			n = min(s.skip, int64(len(p)))
		}
		if s.total += n; s.total > s.MaxTotal {
			return ErrInvalid
		}
		if s.skip == 0 {
			if err := s.lineByte(p[0]); err != nil {
				return err
			}
		} else if s.skip -= n; s.skip == 0 {
			s.element()
		}
		p = p[n:]
	}
	return nil
}

func (s *Scanner) lineByte(b byte) error {
	switch {
	case s.kind == 0 && strings.IndexByte(kinds, b) < 0:
		return ErrInvalid
	case s.kind == 0:
		s.kind, s.number, s.negative, s.length = b, 0, false, 0
	case b == '\n':
		kind := s.kind
		s.kind = 0
		return s.line(kind)
	case announces(s.kind) && b >= '0' && b <= '9':
		s.number = s.number*10 + int64(b-'0')
	case announces(s.kind) && b == '-' && s.length == 1:
		s.negative = true
	case announces(s.kind) && b != '\r':
		return ErrInvalid
	}
	// A line this short cannot hold a number that overflows.
	if s.length++; s.length > maxLine || announces(s.kind) && s.length > 16 {
		return ErrInvalid
	}
	return nil
}

// kinds are all valid first bytes of a reply.
const kinds = "+-:_#,(" + announcing

// announcing are the kinds whose line is a length.
const announcing = "$=!*~>%|"

// announces reports whether a line of the kind is a length.
func announces(kind byte) bool {
	return strings.IndexByte(announcing, kind) >= 0
}

// line handles the end of a line.
func (s *Scanner) line(kind byte) error {
	if s.negative && announces(kind) {
		s.element()
		return nil
	}
	switch kind {
	case '$', '=', '!':
		if s.number > s.MaxString {
			return ErrInvalid
		}
		s.skip = s.number + 2
	case '*', '~', '>':
		return s.list(s.number)
	case '%':
		return s.list(2 * s.number)
	case '|':
		// An attribute is not an element: another one follows.
		return s.list(2*s.number + 1)
	default:
		s.element()
	}
	return nil
}

func (s *Scanner) list(elements int64) error {
	if elements > maxElements || len(s.open) == maxDepth {
		return ErrInvalid
	}
	if elements == 0 {
		s.element()
		return nil
	}
	s.open = append(s.open, elements)
	return nil
}

// element handles the end of an element, and of the lists that it completes.
func (s *Scanner) element() {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return
		}
		s.open = s.open[:last]
	}
	s.total = 0
}
