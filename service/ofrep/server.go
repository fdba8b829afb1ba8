// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Timeouts of requests. Clients give up after ten seconds.
const (
	readHeaderTimeout = 2 * time.Second
	readTimeout       = 5 * time.Second
	writeTimeout      = 8 * time.Second
	idleTimeout       = time.Minute
	maxHeaderBytes    = 32 << 10
)

// NewServer returns a server whose timeouts and size limits bound the resources
// that one client can hold. Event streams have their own limits.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Refusal returns the response to a request that cannot be read, in the form of
// the protocol's other errors.
func Refusal(status int) (mediaType string, body []byte) {
	details := "the request cannot be read: " + http.StatusText(status)
	switch status {
	case http.StatusBadRequest:
		details = "the request is not valid HTTP, or its path has an invalid escape: a percent sign must be encoded as %25"
	case http.StatusRequestHeaderFieldsTooLarge:
		details = fmt.Sprintf("the headers exceed %d bytes", maxHeaderBytes)
	}
	return "application/json", failure("", codeGeneral, details)
}
