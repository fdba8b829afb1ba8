// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package redistest starts real Redis servers for tests.
package redistest

import (
	"context"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout is how long a server may take to answer.
const startTimeout = 10 * time.Second

// Server is a redis-server on loopback that ends with the test.
type Server struct {
	// Addr is host:port. It stays the same when the server is started again.
	Addr string

	t    testing.TB
	args []string
	// bare says that args are all there is.
	bare    bool
	command *exec.Cmd
}

// Start starts a server with further arguments, such as --requirepass.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, args: args}
	s.launch()
	return s
}

// launch starts the server on a free port.
func (s *Server) launch() {
	s.t.Helper()
	s.t.Cleanup(func() {
		if s.command != nil {
			s.Kill()
		}
	})
	// Between choosing a port and listening on it somebody else may take it.
	for range 5 {
		s.Addr = freeAddress(s.t)
		if s.start() {
			return
		}
	}
	s.t.Fatal("redis-server could not listen on any of five free ports")
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("looking for a free port: %v", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// start runs the server and waits for it to listen; it is false if it ends
// instead.
func (s *Server) start() bool {
	s.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("this test needs redis-server on the PATH: install it with " +
			"`apt-get install redis-server` (Debian, Ubuntu) or `brew install redis`")
	}
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		s.t.Fatalf("splitting the address: %v", err)
	}
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.t.TempDir()}, s.args...)
	if s.bare {
		args = slices.Concat(s.args, []string{"--port", port})
	}
	s.command = exec.Command(path, args...)
	s.command.SysProcAttr = attached()
	if err := s.command.Start(); err != nil {
		s.t.Fatalf("starting redis-server: %v", err)
	}
	ended := make(chan struct{})
	go func(c *exec.Cmd) { _ = c.Wait(); close(ended) }(s.command)
	return s.listens(ended)
}

func (s *Server) listens(ended <-chan struct{}) bool {
	s.t.Helper()
	deadline := time.After(startTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", s.Addr); err == nil {
			_ = conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-deadline:
			s.t.Fatalf("redis-server does not listen on %s after %s", s.Addr, startTimeout)
		case <-tick.C:
		}
	}
}

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() { s.signal(syscall.SIGKILL); s.command = nil }

// Pause stops the server without closing anything: it takes connections and
// answers nothing. Resume lets it go on.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		s.t.Fatalf("sending %s to redis-server: %v", signal, err)
	}
}

// Restart starts a killed server again at its address, empty. The system may need
// a moment to let go of the port.
func (s *Server) Restart() {
	s.t.Helper()
	for range 50 {
		if s.start() {
			return
		}
	}
	s.t.Fatalf("redis-server could not be started again on %s", s.Addr)
}

// Port is the port alone.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// URL is redis:// with the address.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Client returns a client for looking at the server, closed with the test.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.Addr, ClientName: "redistest"})
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Connections counts the connections of others than Client.
func (s *Server) Connections(client *redis.Client) int {
	s.t.Helper()
	list, err := client.ClientList(context.Background()).Result()
	if err != nil {
		s.t.Fatalf("listing the connections: %v", err)
	}
	count := 0
	for line := range strings.Lines(list) {
		if !strings.Contains(line, "name=redistest") {
			count++
		}
	}
	return count
}

// Eventually waits until a condition holds, and fails the test with the reason
// if it does not in time.
func Eventually(t testing.TB, within time.Duration, reason string, condition func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("within %s, %s", within, reason)
		case <-tick.C:
		}
	}
}
