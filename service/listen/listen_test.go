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

const patient = 10 * time.Second

func listenOn(t *testing.T, most int) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, most)
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

// pair is a connection of the listener and its other end.
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

// reading starts a read and returns what becomes of it.
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
			t.Errorf("it ends with %v, not %v", err, want)
		}
	case <-time.After(patient):
		t.Fatal("it does not end")
	}
}

func set(t *testing.T, change func(time.Time) error, deadline time.Time) {
	t.Helper()
	if err := change(deadline); err != nil {
		t.Fatal(err)
	}
}

func TestADeadlineEndsWhatWaits(t *testing.T) {
	l := listenOn(t, 0)
	server, _ := pair(t, l)
	set(t, server.SetReadDeadline, time.Now().Add(time.Hour))
	result := reading(server)
	l.look(59 * time.Minute)
	select {
	case err := <-result:
		t.Fatalf("it ends before its time with %v", err)
	default:
	}
	l.look(2 * time.Hour)
	expect(t, result, os.ErrDeadlineExceeded)
	expect(t, reading(server), os.ErrDeadlineExceeded)
}

func TestALaterDeadlineCountsAndNoneIsNone(t *testing.T) {
	tests := map[string]time.Time{"a later one": time.Now().Add(10 * time.Hour), "none": {}}
	for name, later := range tests {
		t.Run(name, func(t *testing.T) {
			l := listenOn(t, 0)
			server, client := pair(t, l)
			set(t, server.SetReadDeadline, time.Now().Add(time.Hour))
			set(t, server.SetReadDeadline, later)
			result := reading(server)
			l.look(2 * time.Hour)
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			expect(t, result, nil)
		})
	}
}

func TestAConnectionWorksAgainAfterADeadline(t *testing.T) {
	l := listenOn(t, 0)
	server, client := pair(t, l)
	for range 2 {
		set(t, server.SetReadDeadline, time.Now().Add(time.Minute))
		l.look(2 * time.Hour)
		expect(t, reading(server), os.ErrDeadlineExceeded)
		set(t, server.SetReadDeadline, time.Now().Add(3*time.Hour))
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		expect(t, reading(server), nil)
	}
}

// TestAPastDeadlineCountsAtOnce is how net/http interrupts a read.
func TestAPastDeadlineCountsAtOnce(t *testing.T) {
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

func TestReadingAndWritingHaveTheirOwnDeadlines(t *testing.T) {
	l := listenOn(t, 0)
	server, client := pair(t, l)
	set(t, server.SetWriteDeadline, time.Now().Add(time.Minute))
	l.look(2 * time.Hour)
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

func TestRunLooks(t *testing.T) {
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

func TestMoreConnectionsWait(t *testing.T) {
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
		t.Fatalf("a third is accepted (%v)", err)
	default:
	}
	// Closing twice frees one place.
	_ = first.Close()
	_ = first.Close()
	expect(t, accepted, nil)
	if len(l.places) != 1 || len(l.conns) != 1 {
		t.Errorf("%d places are taken, %d connections known", len(l.places), len(l.conns))
	}
}

// TestIdleConnectionsMakeRoom has one that is busy, one that has just become
// idle and one that has been so for long.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	l := listenOn(t, 3)
	active, _ := pair(t, l)
	fresh, _ := pair(t, l)
	idle, _ := pair(t, l)
	l.Idle(active, true)
	l.Idle(idle, true)
	l.Idle(active, false)
	l.look(idleEnough - 1)
	l.Idle(fresh, true)
	l.look(idleEnough + 1)
	ends := map[string]<-chan error{"active": reading(active), "fresh": reading(fresh), "idle": reading(idle)}
	l.look(idleEnough + 2)
	select {
	case err := <-ends["idle"]:
		t.Fatalf("it is ended although nobody waits for its place: %v", err)
	default:
	}
	dial(t, l)
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	deadline := time.After(patient)
	for !l.waiting.Load() {
		select {
		case <-deadline:
			t.Fatal("the fourth does not wait")
		default:
		}
	}
	l.look(idleEnough + 3)
	expect(t, ends["idle"], os.ErrDeadlineExceeded)
	_ = idle.Close()
	expect(t, accepted, nil)
	for _, name := range []string{"active", "fresh"} {
		select {
		case err := <-ends[name]:
			t.Errorf("the %s one is ended: %v", name, err)
		default:
		}
	}
}

func TestClosingEndsTheWaitForAPlace(t *testing.T) {
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

func TestHalfAConnectionCanBeClosed(t *testing.T) {
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

// TestServes puts net/http on it, with limits that are short and requests that
// keep to them.
func TestServes(t *testing.T) {
	l := listenOn(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	server := &http.Server{
		ReadHeaderTimeout: 3 * Tick, ReadTimeout: 3 * Tick, WriteTimeout: 3 * Tick, IdleTimeout: patient,
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
