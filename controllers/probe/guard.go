// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"errors"
	"net"
	"strings"
)

// Bounds of what a server may send in one probe. A normal one sends about 4 KiB.
const (
	maxReplyBytes = 64 << 10
	// maxStringDigits and maxListDigits bound the announced length of a string and of
	// a list: the client allocates the announced length before the data arrives, for
	// lists at every level of nesting.
	maxStringDigits = 5
	maxListDigits   = 2
)

var (
	errReplyTooLong = errors.New("reply exceeds the maximum length")
	errNotRESP      = errors.New("reply does not follow the Redis protocol")
)

// guardedConn passes on what the server sends while it looks like replies of a Redis
// server, and keeps the beginning.
type guardedConn struct {
	net.Conn
	// check is what else is checked; nil for the replies to a probe.
	check func([]byte) error

	total int
	// head is the beginning of the first reply: a server that rejects a connection sends
	// an error and closes it, and the client may see only the closed connection.
	head []byte
	// kind is the type byte of the line being read, digits how many followed it.
	kind     byte
	digits   int
	midLine  bool
	rejected error
}

// maxHead is enough for every error that precedes a closed connection.
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
	if c.check != nil {
		return c.check(p)
	}
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

// scan checks the announced lengths in the stream. It does not track the bounds of
// strings: no reply to a probe has a line within a string that looks like an announced
// length.
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

// firstErrorReply returns the text of the first reply if that is an error, else "".
func (c *guardedConn) firstErrorReply() string {
	if len(c.head) == 0 || c.head[0] != '-' {
		return ""
	}
	line, _, _ := bytes.Cut(c.head[1:], []byte("\r\n"))
	return string(line)
}

// startsWithTLS reports whether the server's first byte is that of a TLS alert or
// handshake.
func (c *guardedConn) startsWithTLS() bool {
	const alert, handshake = 0x15, 0x16
	return len(c.head) > 0 && (c.head[0] == alert || c.head[0] == handshake)
}
