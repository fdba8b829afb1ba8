// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/flagcache/flagcache/service/listen"
	"github.com/flagcache/flagcache/service/ofrep"
)

// server is an HTTP server of the service.
type server struct {
	*http.Server
	// name identifies the server in logs and errors.
	name string
	// address is the address to listen on.
	address string
	// connections is the maximum number of connections; 0 is no limit.
	connections int
	// refuse is the form of the responses to requests that cannot be read; the default
	// is that of OFREP.
	refuse listen.Refusal
	// budget limits the bytes of responses in flight.
	budget *listen.Budget
	// listener is set once the server listens.
	listener *listen.Listener
}

// listenAll opens the listeners of all servers, or none.
func listenAll(servers []*server) error {
	for i, s := range servers {
		listener, err := net.Listen("tcp", s.address)
		if err != nil {
			err = fmt.Errorf("listening for %s: %w", s.name, err)
			for _, opened := range servers[:i] {
				err = errors.Join(err, opened.listener.Close())
			}
			return err
		}
		s.listener = listen.New(listener, s.connections)
		s.listener.Refuse, s.listener.Budget = s.refuse, s.budget
		if s.refuse == nil {
			s.listener.Refuse = ofrep.Refusal
		}
		s.ConnState = func(c net.Conn, state http.ConnState) { s.listener.Idle(c, state == http.StateIdle) }
	}
	return nil
}

// serve serves until the server is shut down.
func (s *server) serve() error {
	if err := s.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s on %s: %w", s.name, s.listener.Addr(), err)
	}
	return nil
}

// end shuts the server down. Connections that do not end before ctx are closed,
// which is not an error.
func (s *server) end(ctx context.Context, log *slog.Logger) error {
	if err := s.Shutdown(ctx); err != nil {
		log.Warn("closing connections with unfinished requests", "server", s.name, "error", err)
		return s.Close()
	}
	return nil
}

// addresses returns the servers' addresses for the log, as alternating names
// and values.
func addresses(servers []*server) []any {
	var fields []any
	for _, s := range servers {
		fields = append(fields, s.name, s.listener.Addr().String())
	}
	return fields
}
