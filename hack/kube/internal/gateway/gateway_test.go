// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startGateway serves a gateway for the test and returns its socket.
func startGateway(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "net.sock")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&Server{}).Serve(ctx, socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended: %v", err)
		}
	})
	return socket
}

// dial connects through the gateway as soon as it serves.
func dial(t *testing.T, socket, address string) (net.Conn, error) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		connection, err := Dial(t.Context(), socket, address)
		if err == nil || !strings.Contains(err.Error(), "reaching the cluster's gateway") || time.Now().After(deadline) {
			return connection, err
		}
	}
}

func TestDialKeepsAHalfClosedConnectionOpen(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		question, _ := io.ReadAll(connection)
		io.WriteString(connection, "answer to "+string(question))
	}()
	connection, err := dial(t, startGateway(t), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	io.WriteString(connection, "question")
	connection.(interface{ CloseWrite() error }).CloseWrite()
	answer, err := io.ReadAll(connection)
	if err != nil || string(answer) != "answer to question" {
		t.Errorf("have %q, %v", answer, err)
	}
}

func TestDialSaysWhyAnAddressIsNotReached(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, err = dial(t, startGateway(t), listener.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("have %v, want a refused connection", err)
	}
}
