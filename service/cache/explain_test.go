// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// awaitCause waits until the log has why Redis is unavailable.
func (r *testCache) awaitCause(t *testing.T, want string) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "the log has no "+want, func() bool {
		_, _ = r.Read(t.Context())
		return strings.Contains(r.logs.String(), want)
	})
}

// TestMaxClientsIsNamed connects to a server that has reached its limit. Some
// attempts notice that only when they write.
func TestMaxClientsIsNamed(t *testing.T) {
	server := redistest.Start(t, "--maxclients", "1")
	// It occupies the only connection.
	client := server.Client()
	client.Ping(t.Context())
	r := runCache(t, Options{URL: server.URL()})
	r.awaitCause(t, "max number of clients reached")
	if text := r.logs.String(); strings.Contains(text, "broken pipe") || strings.Contains(text, "reset by peer") {
		t.Errorf("the log is %s", text)
	}
}

// TestLateWriterLearnsOfMaxClients closes the connection before anything is
// written, as Redis does.
func TestLateWriterLearnsOfMaxClients(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := listener.Accept()
		accepted <- conn
	}()
	dialed, err := dialer(nil, time.Second, 1<<20)(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dialed.Close() }()
	server := <-accepted
	if _, err := io.WriteString(server, maxClientsReply+"\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	for err == nil {
		_, err = io.WriteString(dialed, "PING\r\n")
	}
	if !strings.Contains(err.Error(), errMaxClients.Error()) {
		t.Errorf("writing fails with: %v", err)
	}
}

// TestTLSToAPlainPortIsNamed connects with TLS to a server that does not use it,
// and waits for the rest of what it takes for a command.
func TestTLSToAPlainPortIsNamed(t *testing.T) {
	server := redistest.Start(t)
	r := runCache(t, Options{URL: strings.Replace(server.URL(), "redis://", "rediss://", 1)})
	r.awaitCause(t, errNoTLS.Error())
}

// TestPlainToATLSPortIsNamed connects without TLS to a server that closes such
// connections.
func TestPlainToATLSPortIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	r := runCache(t, Options{URL: "redis://" + listener.Addr().String()})
	r.awaitCause(t, errPlain.Error())
}
