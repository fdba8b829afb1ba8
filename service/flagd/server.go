// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/flagcache/flagcache/service/ofrep"
)

// Limits of a connection of HTTP/2, which multiplexes requests.
const (
	// maxConcurrent is the maximum number of concurrent requests and streams.
	maxConcurrent = 100
	// receiveBuffer is the size of the buffers for requests that have not been read, of
	// all together and of each: the smallest.
	receiveBuffer = 64 << 10
	// pingAfter is the time without a frame after which a client is sent a ping, and
	// pingTimeout the time in which it must reply: the connections of streams are idle.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// writeByteTimeout is the time in which a connection must accept a byte.
	writeByteTimeout = 10 * time.Second
)

// NewServer returns a server like that of OFREP that also serves HTTP/2 without TLS,
// which gRPC requires.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	server := ofrep.NewServer(handler, log)
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          maxConcurrent,
		MaxReceiveBufferPerConnection: receiveBuffer,
		MaxReceiveBufferPerStream:     receiveBuffer,
		SendPingTimeout:               pingAfter,
		PingTimeout:                   pingTimeout,
		WriteByteTimeout:              writeByteTimeout,
	}
	return server
}

// Pattern returns the name of a request's method for traces. It is empty for requests that
// are not traced: streams, which last for hours, and unknown paths.
func (h *Handler) Pattern(r *http.Request) string {
	if p, known := h.procedures[r.URL.Path]; known && !p.streams {
		return r.URL.Path
	}
	return ""
}
