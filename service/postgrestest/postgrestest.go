// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package postgrestest starts real PostgreSQL servers for tests.
//
// Tests that kill the server start their own; all others share one, in which
// each has its own database:
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }
//
//	uri := postgrestest.Database(t)
package postgrestest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// startTimeout limits the time until a server accepts connections, even on a
	// busy machine.
	startTimeout = 30 * time.Second
	// Password of the server's superuser, postgres.
	Password = "postgrestest-password"
)

// Server is a PostgreSQL server on the loopback interface.
type Server struct {
	// Addr is host:port. It stays the same when the server is restarted.
	Addr string

	dir     string
	account *syscall.Credential
	command *exec.Cmd
	ended   chan struct{}
	output  bytes.Buffer
}

// shared is the server that the tests of a process share.
var shared struct {
	sync.Mutex
	server *Server
}

var databases atomic.Int64

// Main runs the tests and then stops the shared server.
func Main(m *testing.M) int {
	defer func() {
		if shared.server != nil {
			shared.server.remove()
		}
	}()
	return m.Run()
}

// Database creates an empty database on the shared server and returns its URI.
func Database(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		shared.server = launch(t)
	}
	return shared.server.Database(t)
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := launch(t)
	t.Cleanup(s.remove)
	return s
}

// Database creates an empty database and returns its URI.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.uri("postgres"))
	if err != nil {
		t.Fatalf("connecting to PostgreSQL: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("creating a database: %v", err)
	}
	return s.uri(name)
}

func (s *Server) uri(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=disable", Password, s.Addr, database)
}

// Kill kills the server, like a crash. Committed data is kept.
func (s *Server) Kill() {
	if s.command != nil {
		_ = s.command.Process.Signal(syscall.SIGQUIT)
		<-s.ended
		s.command = nil
	}
}

// Restart restarts a killed server at its address, with its data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	for range 20 {
		if s.start(t) {
			return
		}
	}
	t.Fatalf("PostgreSQL could not be restarted on %s:\n%s", s.Addr, s.output.String())
}

func (s *Server) remove() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}

// launch creates a cluster and starts the server.
func launch(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "postgrestest-")
	if err != nil {
		t.Fatalf("creating a directory for PostgreSQL: %v", err)
	}
	s := &Server{dir: dir, account: account(t)}
	s.initialize(t)
	// Another process may take the port before the server listens on it.
	for range 5 {
		s.Addr = freeAddress(t)
		if s.start(t) {
			return s
		}
	}
	s.remove()
	t.Fatalf("PostgreSQL could not listen on any of five free ports:\n%s", s.output.String())
	return nil
}

func (s *Server) initialize(t testing.TB) {
	t.Helper()
	passwordFile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(Password), 0o600); err != nil {
		t.Fatalf("writing the password: %v", err)
	}
	if s.account != nil {
		for _, path := range []string{s.dir, passwordFile} {
			if err := os.Chown(path, int(s.account.Uid), int(s.account.Gid)); err != nil {
				t.Fatalf("changing the owner of PostgreSQL's directory: %v", err)
			}
		}
	}
	command := s.program(t, "initdb", "--pgdata", s.data(), "--username", "postgres", "--pwfile", passwordFile,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("creating a PostgreSQL cluster: %v\n%s", err, output)
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// program returns a command that runs one of PostgreSQL's programs as the owner
// of the data.
func (s *Server) program(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(find(t, name), args...)
	command.Dir = s.dir
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	command.SysProcAttr = processAttributes(s.account)
	return command
}

// start runs the server and waits until it accepts connections. It returns
// false if the server exits instead.
func (s *Server) start(t testing.TB) bool {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatalf("splitting the address: %v", err)
	}
	args := []string{"-D", s.data(), "-p", port}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60",
	} {
		args = append(args, "-c", setting)
	}
	s.output.Reset()
	s.command = s.program(t, "postgres", args...)
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	if err := s.command.Start(); err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	s.ended = make(chan struct{})
	go func(c *exec.Cmd, ended chan struct{}) { _ = c.Wait(); close(ended) }(s.command, s.ended)
	return s.awaitReady(t)
}

func (s *Server) awaitReady(t testing.TB) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := pgx.Connect(ctx, s.uri("postgres")); err == nil {
			_ = conn.Close(ctx)
			return true
		}
		select {
		case <-s.ended:
			s.command = nil
			return false
		case <-ctx.Done():
			t.Fatalf("PostgreSQL does not accept connections on %s after %s", s.Addr, startTimeout)
		case <-tick.C:
		}
	}
}

// account returns the account to run the server as, because PostgreSQL refuses
// to run as root. It is nil for the current one.
func account(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody")
	return nil
}

// find returns the path of a program in PATH or in Debian's directory.
func find(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("this test requires PostgreSQL's %s: install it with `make postgres`, "+
			"`apt-get install postgresql` (Debian, Ubuntu) or `brew install postgresql`", name)
	}
	return found[len(found)-1]
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("finding a free port: %v", err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
