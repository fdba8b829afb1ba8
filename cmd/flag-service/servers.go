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
)

// server is one address that the service answers at.
type server struct {
	*http.Server
	// name is what it answers, in logs and errors.
	name string
	// address is where it shall listen.
	address string
	// connections is how many there may be at a time; 0 is no limit.
	connections int
	// listener is there once it listens.
	listener *listen.Listener
}

// listenAll opens the listeners of all servers, or of none.
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

// end shuts the server down. What does not end before ctx is cut off; that is no
// failure of the service.
func (s *server) end(ctx context.Context, log *slog.Logger) error {
	if err := s.Shutdown(ctx); err != nil {
		log.Warn("closing connections that did not end", "server", s.name, "error", err)
		return s.Close()
	}
	return nil
}

// addresses are the servers' for the log, as alternating names and values.
func addresses(servers []*server) []any {
	var fields []any
	for _, s := range servers {
		fields = append(fields, s.name, s.listener.Addr().String())
	}
	return fields
}
