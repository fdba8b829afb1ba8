// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package redistest starts real Redis servers for tests.
package redistest

import (
	"context"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout limits the time until a server listens.
const startTimeout = 10 * time.Second

// Server is a redis-server on the loopback interface that ends with the test.
type Server struct {
	// Addr is host:port. It stays the same when the server is restarted.
	Addr string

	t    testing.TB
	args []string
	// bare means that no arguments are added to args but the port.
	bare    bool
	command *exec.Cmd
	// ended is closed when the process of command has ended.
	ended chan struct{}
}

// Start starts a server with additional arguments, such as --requirepass.
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
	// Another process may take the port before the server listens on it.
	for range 5 {
		s.Addr = freeAddress(s.t)
		if s.start() {
			return
		}
	}
	s.t.Fatal("redis-server could not listen on any of five free ports")
}

// freeAddress returns an address whose port is below those that the system assigns to
// clients, so that the port of a killed server stays free until it is restarted.
func freeAddress(t testing.TB) string {
	t.Helper()
	const lowest, ports, attempts = 10_000, 20_000, 100
	var err error
	for range attempts {
		var listener net.Listener
		listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(ports))))
		if err == nil {
			defer func() { _ = listener.Close() }()
			return listener.Addr().String()
		}
	}
	t.Fatalf("finding a free port: %v", err)
	return ""
}

// start runs the server and waits until it listens. It returns false if the
// server exits instead.
func (s *Server) start() bool {
	s.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("this test requires redis-server on the PATH: install it with " +
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
	s.command.SysProcAttr = endWithParent()
	if err := s.command.Start(); err != nil {
		s.t.Fatalf("starting redis-server: %v", err)
	}
	s.ended = make(chan struct{})
	go func(c *exec.Cmd, ended chan<- struct{}) { _ = c.Wait(); close(ended) }(s.command, s.ended)
	return s.awaitListening()
}

func (s *Server) awaitListening() bool {
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
		case <-s.ended:
			return false
		case <-deadline:
			s.t.Fatalf("redis-server does not listen on %s after %s", s.Addr, startTimeout)
		case <-tick.C:
		}
	}
}

// Kill kills the server, like a crash, and waits for its end: until then it would answer in
// place of the restarted one.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.ended
	s.command = nil
}

// Pause suspends the server: connections stay open and are accepted, but
// nothing is answered.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		s.t.Fatalf("sending %s to redis-server: %v", signal, err)
	}
}

// Restart restarts a killed server at its address, without data. The system may
// take a moment to release the port.
func (s *Server) Restart() {
	s.t.Helper()
	for range 50 {
		if s.start() {
			return
		}
	}
	s.t.Fatalf("redis-server could not be restarted on %s", s.Addr)
}

// Port returns the port.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// URL returns redis:// with the address.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Client returns a client of the server that is closed with the test.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.Addr, ClientName: "redistest"})
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Connections returns the number of connections, not counting those of Client.
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
// if it does not hold in time.
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
