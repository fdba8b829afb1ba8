// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"errors"
	"net"
	"strings"
)

// Bounds on the replies of a server. The client allocates what a reply announces
// before it arrives, for lists at every level of nesting, and follows nesting by
// recursion; an honest server needs a small part of this.
const (
	maxElements = 4096
	maxDepth    = 16
	maxLine     = 16 << 10
)

var errReply = errors.New("a reply that is larger than any of Redis's, or none")

// guardedConn hands on what a server sends as long as it is replies in Redis's
// protocol (https://redis.io/docs/latest/develop/reference/protocol-spec) within
// bounds. What goes over a bound is never handed on, and nothing after it.
type guardedConn struct {
	net.Conn
	scanner replyScanner
	failed  error
}

// Read implements net.Conn.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	n, err := c.Conn.Read(p)
	if c.failed = c.scanner.scan(p[:n]); c.failed != nil {
		return 0, c.failed
	}
	return n, err
}

// replyScanner follows a stream of replies, as far as their lengths go.
type replyScanner struct {
	// maxString is the most bytes of a string, maxTotal those of a whole reply.
	maxString, maxTotal int64

	// open has, for each list around the current position, how many of its elements
	// are to come.
	open []int64
	// total is how many bytes of the current reply were seen.
	total int64
	// skip is how many bytes are left of the string being read.
	skip int64
	// kind is the first byte of the line being read, 0 between lines; number and
	// negative are what it announces, length how long it is.
	kind     byte
	number   int64
	negative bool
	length   int
}

func (s *replyScanner) scan(p []byte) error {
	for len(p) > 0 {
		n := int64(1)
		if s.skip > 0 {
			n = min(s.skip, int64(len(p)))
		}
		if s.total += n; s.total > s.maxTotal {
			return errReply
		}
		if s.skip == 0 {
			if err := s.byteOfLine(p[0]); err != nil {
				return err
			}
		} else if s.skip -= n; s.skip == 0 {
			s.element()
		}
		p = p[n:]
	}
	return nil
}

func (s *replyScanner) byteOfLine(b byte) error {
	switch {
	case s.kind == 0 && strings.IndexByte(kinds, b) < 0:
		return errReply
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
		return errReply
	}
	// So short a line holds no number that overflows.
	if s.length++; s.length > maxLine || announces(s.kind) && s.length > 16 {
		return errReply
	}
	return nil
}

// kinds are all first bytes of a reply.
const kinds = "+-:_#,(" + announcing

// announcing are those whose line is a length.
const announcing = "$=!*~>%|"

// announces says that a line of the kind is a length.
func announces(kind byte) bool {
	return strings.IndexByte(announcing, kind) >= 0
}

// line ends a line of a kind.
func (s *replyScanner) line(kind byte) error {
	if s.negative && announces(kind) {
		s.element()
		return nil
	}
	switch kind {
	case '$', '=', '!':
		if s.number > s.maxString {
			return errReply
		}
		s.skip = s.number + 2
	case '*', '~', '>':
		return s.list(s.number)
	case '%':
		return s.list(2 * s.number)
	case '|':
		// An attribute is not an element: one more is to come.
		return s.list(2*s.number + 1)
	default:
		s.element()
	}
	return nil
}

func (s *replyScanner) list(elements int64) error {
	if elements > maxElements || len(s.open) == maxDepth {
		return errReply
	}
	if elements == 0 {
		s.element()
		return nil
	}
	s.open = append(s.open, elements)
	return nil
}

// element ends an element, and the lists whose last one it was.
func (s *replyScanner) element() {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return
		}
		s.open = s.open[:last]
	}
	s.total = 0
}
