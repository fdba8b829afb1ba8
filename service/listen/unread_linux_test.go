// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// sweeping calls sweep until the condition holds, as Run does with its own clock.
func sweeping(t *testing.T, l *Listener, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	end := time.After(timeout)
	for l.sweep(time.Since(l.start)); !holds(); l.sweep(time.Since(l.start)) {
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("%s: not within %s", what, timeout)
		}
	}
}

// unreadPair returns a connection with a budget, and its peer with a receive buffer that does not grow.
func unreadPair(t *testing.T, limit int64) (l *Listener, server *conn, client net.Conn) {
	t.Helper()
	l = listenOn(t, 0)
	l.Budget = NewBudget(limit, prometheus.NewRegistry())
	accepted, client := pair(t, l)
	if err := client.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	return l, accepted.(*conn), client
}

// writing starts a write of as many bytes, and returns its result.
func writing(to net.Conn, size int) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := to.Write(bytes.Repeat([]byte("x"), size))
		result <- err
	}()
	return result
}

func TestBytesCountUntilTheyAreReceived(t *testing.T) {
	const size = 4 << 20
	l, server, client := unreadPair(t, 100<<20)
	result := writing(server, size)
	sweeping(t, l, "the write is counted", func() bool { return l.Budget.bytes.Load() >= size })
	if _, err := io.CopyN(io.Discard, client, size); err != nil {
		t.Fatal(err)
	}
	expect(t, result, nil)
	sweeping(t, l, "all was received", func() bool { return l.Budget.bytes.Load() == 0 })
}

func TestSendBufferIsBounded(t *testing.T) {
	l, server, _ := unreadPair(t, 1<<40)
	result := writing(server, 8<<20)
	sweeping(t, l, "the write waits", func() bool { return server.isStalled(time.Since(l.start)) || len(result) > 0 })
	if got := queued(server.Conn); got == 0 || got > 4*sendBuffer {
		t.Errorf("the kernel holds %d bytes, want at most %d", got, 4*sendBuffer)
	}
	_ = server.Close()
	expect(t, result, net.ErrClosed)
}

func TestStalledConnectionsAreResetWhileTheBudgetIsStrained(t *testing.T) {
	for name, c := range map[string]struct {
		limit int64
		reset bool
	}{"strained": {4 << 20, true}, "with room": {1 << 40, false}} {
		t.Run(name, func(t *testing.T) {
			l, server, client := unreadPair(t, c.limit)
			result := writing(server, 4<<20)
			sweeping(t, l, "it has stalled", func() bool { return server.isStalled(time.Since(l.start)) || len(result) > 0 })
			l.sweep(time.Since(l.start))
			if !c.reset {
				if _, err := io.CopyN(io.Discard, client, 4<<20); err != nil {
					t.Fatalf("it was reset with room in the budget: %v", err)
				}
				expect(t, result, nil)
				return
			}
			expect(t, result, net.ErrClosed)
			_ = server.Close()
			if got := l.Budget.bytes.Load(); got != 0 {
				t.Errorf("%d bytes are counted after the reset", got)
			}
			if got := testutil.ToFloat64(l.Budget.slow); got != 1 {
				t.Errorf("%v slow readers are counted, want 1", got)
			}
		})
	}
}

// A client could else fill the kernel's buffer with refusals, which need no reservation.
func TestNothingIsWrittenBehindUnreadBytesBeyondTheBudget(t *testing.T) {
	l, server, _ := unreadPair(t, 1<<20)
	result := writing(server, 2<<20)
	sweeping(t, l, "the write is counted", func() bool { return l.Budget.bytes.Load() > 1<<20 })
	if _, err := server.Write([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n")); !errors.Is(err, errSlowReader) {
		t.Errorf("the write ends with %v, want %v", err, errSlowReader)
	}
	expect(t, result, net.ErrClosed)
}

func TestClosedConnectionKeepsItsSlotUntilItsBytesAreReceived(t *testing.T) {
	l := listenOn(t, 1)
	l.Budget = NewBudget(1<<40, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	defer running.Wait()
	defer cancel()
	sweeping(t, l, "the listener runs", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.running })
	accepted, client := pair(t, l)
	server := accepted.(*conn)
	if err := client.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	size := 0
	for queued(server.Conn) == 0 {
		n, err := server.Write(make([]byte, 8<<10))
		if size += n; err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if len(l.slots) != 1 || l.Budget.bytes.Load() == 0 {
		t.Errorf("%d slots are taken and %d bytes counted, although the client has not received them", len(l.slots), l.Budget.bytes.Load())
	}
	if n, err := io.Copy(io.Discard, client); err != nil || n != int64(size) {
		t.Errorf("the client receives %d bytes (%v), want %d", n, err, size)
	}
	sweeping(t, l, "the slot is free", func() bool { return len(l.slots) == 0 })
	if got := l.Budget.bytes.Load(); got != 0 {
		t.Errorf("%d bytes are counted at the end", got)
	}
}

func TestDrainingEndsInTimeOrWithTheListener(t *testing.T) {
	for name, end := range map[string]func(l *Listener){
		"in time":           func(l *Listener) { l.sweep(time.Since(l.start) + maxDrain) },
		"with the listener": func(l *Listener) { l.endDraining() },
	} {
		t.Run(name, func(t *testing.T) {
			l, server, _ := unreadPair(t, 1<<40)
			l.setRunning(true)
			set(t, server.SetWriteDeadline, time.Now().Add(time.Hour))
			result := writing(server, 4<<20)
			sweeping(t, l, "the kernel holds bytes", func() bool { return queued(server.Conn) > 0 })
			_ = server.Close()
			if err := <-result; err == nil {
				t.Error("the write of a closed connection goes on")
			}
			if len(l.conns) != 1 {
				t.Fatal("the connection does not drain")
			}
			end(l)
			if got := l.Budget.bytes.Load(); got != 0 || len(l.conns) != 0 {
				t.Errorf("%d bytes are counted and %d connections known", got, len(l.conns))
			}
		})
	}
}

func TestReservations(t *testing.T) {
	b := NewBudget(100, prometheus.NewRegistry())
	if !b.Reserve(60) || b.Reserve(50) || !b.Reserve(40) {
		t.Error("not what fits into 100 bytes is admitted")
	}
	b.Release(100)
	if !b.Reserve(1000) || b.Reserve(1) {
		t.Error("a larger response is not admitted alone")
	}
	b.Release(1000)
	if got := testutil.ToFloat64(b.refused); got != 2 || b.bytes.Load() != 0 {
		t.Errorf("%v refusals and %d bytes, want 2 and 0", got, b.bytes.Load())
	}
	var none *Budget
	if none != NewBudget(0, nil) || !none.Reserve(1<<40) {
		t.Error("0 is a limit")
	}
	none.Release(1 << 40)
}
