// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// dialTimeout bounds how long a client waits for an address that does not respond.
const dialTimeout = 10 * time.Second

// Server opens connections in its network for clients that connect through a Unix socket.
type Server struct {
	// Resolver resolves names with the cluster's DNS.
	Resolver *net.Resolver
}

// Serve listens on the socket path until the context ends.
func (s *Server) Serve(ctx context.Context, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("opening the gateway's socket: %w", err)
	}
	// The context of a request is cancelled when the client has sent everything;
	// connections stay open until the gateway ends.
	handler := func(w http.ResponseWriter, r *http.Request) { s.connect(ctx, w, r) }
	server := http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: dialTimeout}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the gateway: %w", err)
	}
	return nil
}

func (s *Server) connect(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "the gateway understands CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout, Resolver: s.Resolver}
	server, err := dialer.DialContext(r.Context(), "tcp4", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		server.Close()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := client.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		client.Close()
		server.Close()
		return
	}
	Join(ctx, &prefetched{client, rest.Reader}, server)
}
