// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 10 * time.Second

func listenOn(t *testing.T, maxConnections int) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, maxConnections)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// pair returns a connection of the listener and its peer.
func pair(t *testing.T, l *Listener) (server, client net.Conn) {
	t.Helper()
	client = dial(t, l)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server, client
}

// reading starts a read and returns its result.
func reading(conn net.Conn) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		result <- err
	}()
	return result
}

func expect(t *testing.T, result <-chan error, want error) {
	t.Helper()
	select {
	case err := <-result:
		if !errors.Is(err, want) {
			t.Errorf("the read ends with %v, not %v", err, want)
		}
	case <-time.After(timeout):
		t.Fatal("the read does not end")
	}
}

func set(t *testing.T, change func(time.Time) error, deadline time.Time) {
	t.Helper()
	if err := change(deadline); err != nil {
		t.Fatal(err)
	}
}

func TestDeadlineEndsPendingReads(t *testing.T) {
	l := listenOn(t, 0)
	server, _ := pair(t, l)
	set(t, server.SetReadDeadline, time.Now().Add(time.Hour))
	result := reading(server)
	l.sweep(59 * time.Minute)
	select {
	case err := <-result:
		t.Fatalf("the read ends early with %v", err)
	default:
	}
	l.sweep(2 * time.Hour)
	expect(t, result, os.ErrDeadlineExceeded)
	expect(t, reading(server), os.ErrDeadlineExceeded)
}

func TestDeadlineCanBeExtendedAndRemoved(t *testing.T) {
	tests := map[string]time.Time{"a later one": time.Now().Add(10 * time.Hour), "none": {}}
	for name, later := range tests {
		t.Run(name, func(t *testing.T) {
			l := listenOn(t, 0)
			server, client := pair(t, l)
			set(t, server.SetReadDeadline, time.Now().Add(time.Hour))
			set(t, server.SetReadDeadline, later)
			result := reading(server)
			l.sweep(2 * time.Hour)
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			expect(t, result, nil)
		})
	}
}

func TestConnectionIsUsableAfterADeadline(t *testing.T) {
	l := listenOn(t, 0)
	server, client := pair(t, l)
	for range 2 {
		set(t, server.SetReadDeadline, time.Now().Add(time.Minute))
		l.sweep(2 * time.Hour)
		expect(t, reading(server), os.ErrDeadlineExceeded)
		set(t, server.SetReadDeadline, time.Now().Add(3*time.Hour))
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		expect(t, reading(server), nil)
	}
}

// TestPastDeadlineAppliesImmediately matters because net/http interrupts reads like
// this.
func TestPastDeadlineAppliesImmediately(t *testing.T) {
	l := listenOn(t, 0)
	server, client := pair(t, l)
	result := reading(server)
	set(t, server.SetReadDeadline, time.Unix(1, 0))
	expect(t, result, os.ErrDeadlineExceeded)
	set(t, server.SetReadDeadline, time.Time{})
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, reading(server), nil)
}

func TestReadAndWriteDeadlinesAreIndependent(t *testing.T) {
	l := listenOn(t, 0)
	server, client := pair(t, l)
	set(t, server.SetWriteDeadline, time.Now().Add(time.Minute))
	l.sweep(2 * time.Hour)
	if _, err := server.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing ends with %v", err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, reading(server), nil)
	set(t, server.SetDeadline, time.Now().Add(time.Minute))
	expect(t, reading(server), os.ErrDeadlineExceeded)
}

func TestRunEnforcesDeadlines(t *testing.T) {
	l := listenOn(t, 0)
	server, _ := pair(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	defer running.Wait()
	defer cancel()
	set(t, server.SetReadDeadline, time.Now().Add(Tick))
	expect(t, reading(server), os.ErrDeadlineExceeded)
}

func TestConnectionsOverTheLimitWait(t *testing.T) {
	l := listenOn(t, 2)
	first, _ := pair(t, l)
	_, _ = pair(t, l)
	dial(t, l)
	accepted := make(chan error, 1)
	go func() {
		third, err := l.Accept()
		if err == nil {
			err = third.Close()
		}
		accepted <- err
	}()
	select {
	case err := <-accepted:
		t.Fatalf("a third connection is accepted (%v)", err)
	default:
	}
	// Closing twice frees only one slot.
	_ = first.Close()
	_ = first.Close()
	expect(t, accepted, nil)
	if len(l.slots) != 1 || len(l.conns) != 1 {
		t.Errorf("%d slots are taken, %d connections are known", len(l.slots), len(l.conns))
	}
}

// TestIdleConnectionsAreClosedForOthers has a busy connection, one that has just become
// idle, and one that has been idle for long.
func TestIdleConnectionsAreClosedForOthers(t *testing.T) {
	l := listenOn(t, 3)
	active, _ := pair(t, l)
	fresh, _ := pair(t, l)
	idle, _ := pair(t, l)
	l.Idle(active, true)
	l.Idle(idle, true)
	l.Idle(active, false)
	l.sweep(minIdle - 1)
	l.Idle(fresh, true)
	l.sweep(minIdle + 1)
	ends := map[string]<-chan error{"active": reading(active), "fresh": reading(fresh), "idle": reading(idle)}
	l.sweep(minIdle + 2)
	select {
	case err := <-ends["idle"]:
		t.Fatalf("it is closed although no connection waits: %v", err)
	default:
	}
	dial(t, l)
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	deadline := time.After(timeout)
	for !l.waiting.Load() {
		select {
		case <-deadline:
			t.Fatal("the fourth connection does not wait")
		default:
		}
	}
	l.sweep(minIdle + 3)
	expect(t, ends["idle"], os.ErrDeadlineExceeded)
	_ = idle.Close()
	expect(t, accepted, nil)
	for _, name := range []string{"active", "fresh"} {
		select {
		case err := <-ends[name]:
			t.Errorf("the %s connection is closed: %v", name, err)
		default:
		}
	}
}

func TestCloseEndsTheWaitForASlot(t *testing.T) {
	l := listenOn(t, 1)
	pair(t, l)
	dial(t, l)
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	_ = l.Close()
	expect(t, accepted, net.ErrClosed)
}

func TestCloseWrite(t *testing.T) {
	server, client := pair(t, listenOn(t, 0))
	if err := server.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(t, reading(client), io.EOF)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, reading(server), nil)
}

// TestHTTPServer runs net/http on a Listener with short timeouts.
func TestHTTPServer(t *testing.T) {
	l := listenOn(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	server := &http.Server{
		ReadHeaderTimeout: 3 * Tick, ReadTimeout: 3 * Tick, WriteTimeout: 3 * Tick, IdleTimeout: timeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }),
	}
	running.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		cancel()
		running.Wait()
	})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for start := time.Now(); time.Since(start) < 10*Tick; {
		response, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	slow := dial(t, l)
	if _, err := slow.Write([]byte("GET / HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	expect(t, reading(slow), io.EOF)
}
