// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"net"

	"github.com/flagcache/flagcache/service/resp"
)

// guardedConn passes on what a server sends as long as it is valid replies in
// Redis's protocol
// (https://redis.io/docs/latest/develop/reference/protocol-spec) within the
// limits. Data over a limit, and everything after it, is never passed on.
type guardedConn struct {
	net.Conn
	scanner resp.Scanner
	failed  error
	// plain means that the connection does not use TLS; answered that the server has
	// sent something, and full that this was the refusal of a further client.
	plain, answered, full bool
}

// Read implements net.Conn.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		err = c.explained(err)
	}
	if n > 0 && !c.answered {
		c.answered, c.full = true, bytes.HasPrefix(p[:n], []byte(maxClientsReply))
	}
	if c.failed = c.scanner.Scan(p[:n]); c.failed != nil {
		return 0, c.failed
	}
	return n, err
}
