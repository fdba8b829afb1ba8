// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"errors"
	"net"
	"strings"
)

// Bounds on what a server may send in one probe. An honest one sends about 4 KiB.
const (
	maxReplyBytes = 64 << 10
	// maxStringDigits and maxListDigits bound the announced length of a string and
	// of a list: the client allocates what is announced before it arrives, for a list
	// at every level of nesting.
	maxStringDigits = 5
	maxListDigits   = 2
)

var (
	errReplyTooLong = errors.New("reply longer than any of Redis's")
	errNotRESP      = errors.New("reply not in Redis's protocol")
)

// guardedConn hands on what the server sends as long as it looks like replies of a
// Redis server, and remembers how it began.
type guardedConn struct {
	net.Conn

	total int
	// head is the beginning of the first reply: a server that refuses a connection
	// says why and hangs up, and the client may see only the latter.
	head []byte
	// kind is the type byte of the line being read, digits how many followed it.
	kind     byte
	digits   int
	midLine  bool
	rejected error
}

// maxHead is enough for every error that comes before a hang-up.
const maxHead = 128

// Read implements net.Conn.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.rejected != nil {
		return 0, c.rejected
	}
	n, err := c.Conn.Read(p)
	if c.rejected = c.inspect(p[:n]); c.rejected != nil {
		return 0, c.rejected
	}
	return n, err
}

func (c *guardedConn) inspect(p []byte) error {
	if c.total == 0 && len(p) > 0 && !strings.ContainsRune("+-:$*_,#!=(%~>|", rune(p[0])) {
		c.head = p[:1:1]
		return errNotRESP
	}
	c.head = append(c.head, p[:min(len(p), maxHead-len(c.head))]...)
	c.total += len(p)
	if c.total > maxReplyBytes {
		return errReplyTooLong
	}
	for _, b := range p {
		if err := c.scan(b); err != nil {
			return err
		}
	}
	return nil
}

// scan follows the lines of the stream for announced lengths. It does not know
// where a string's own bytes begin and end, and need not: none of the replies to
// a probe has a line within a string that looks like an announcement.
func (c *guardedConn) scan(b byte) error {
	switch {
	case b == '\n':
		c.midLine = false
	case !c.midLine:
		c.midLine, c.kind, c.digits = true, b, 0
	case b >= '0' && b <= '9':
		c.digits++
		if c.digits > digitsAllowed(c.kind) {
			return errReplyTooLong
		}
	default:
		c.kind = 0
	}
	return nil
}

func digitsAllowed(kind byte) int {
	switch kind {
	case '$', '=', '!':
		return maxStringDigits
	case '*', '%', '~', '>', '|':
		return maxListDigits
	}
	return maxReplyBytes
}

// firstError is the first reply's text if that was an error, else empty.
func (c *guardedConn) firstError() string {
	if len(c.head) == 0 || c.head[0] != '-' {
		return ""
	}
	line, _, _ := bytes.Cut(c.head[1:], []byte("\r\n"))
	return string(line)
}

// beganWithTLS reports whether the server's first byte was a TLS alert's or
// handshake's.
func (c *guardedConn) beganWithTLS() bool {
	const alert, handshake = 0x15, 0x16
	return len(c.head) > 0 && (c.head[0] == alert || c.head[0] == handshake)
}
