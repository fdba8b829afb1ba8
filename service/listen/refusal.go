// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
)

// plainError is what net/http writes between the status line and the text of a
// response to a request that it cannot read, such as one with an invalid escape in
// its path. No handler sees such a request. A response of a handler has other
// headers.
const plainError = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// maxStatusLine limits the part of a write that is searched for plainError.
const maxStatusLine = 256

// Refusal returns the media type and the body of the response to a request that
// cannot be read.
type Refusal func(status int) (mediaType string, body []byte)

// refusalStatus returns the status of a response that net/http wrote by itself.
func refusalStatus(p []byte) (status int, ok bool) {
	const prefix = "HTTP/1.1 "
	if len(p) < len(prefix)+3 || !bytes.HasPrefix(p, []byte(prefix)) || p[len(prefix)] != '4' && p[len(prefix)] != '5' {
		return 0, false
	}
	line, _, found := bytes.Cut(p[:min(len(p), maxStatusLine+len(plainError))], []byte(plainError))
	if !found || bytes.IndexByte(line, '\n') >= 0 {
		return 0, false
	}
	status, err := strconv.Atoi(string(p[len(prefix) : len(prefix)+3]))
	return status, err == nil
}

// Write implements net.Conn. It replaces the plain text with which net/http
// refuses a request.
func (c *conn) Write(p []byte) (int, error) {
	refuse := c.listener.Refuse
	if refuse == nil {
		return c.send(p)
	}
	status, refused := refusalStatus(p)
	if !refused {
		return c.send(p)
	}
	mediaType, body := refuse(status)
	response := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), mediaType, len(body), body)
	if _, err := c.send(response); err != nil {
		return 0, err
	}
	return len(p), nil
}
