// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	connections "github.com/flagcache/flagcache/service/listen"
)

// meter is a listener that counts the bytes which clients have not received, by its own
// means: those of writes in progress, and those in the send queues of the kernel.
type meter struct {
	net.Listener
	writing atomic.Int64
	// answered counts the connections with a write.
	answered atomic.Int64

	mu    sync.Mutex
	conns []*metered
}

// metered is a connection of a meter.
type metered struct {
	*net.TCPConn
	meter *meter
	once  sync.Once
}

func (m *meter) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, &metered{TCPConn: c.(*net.TCPConn), meter: m})
	return m.conns[len(m.conns)-1], nil
}

func (c *metered) Write(p []byte) (int, error) {
	c.meter.writing.Add(int64(len(p)))
	defer c.meter.writing.Add(-int64(len(p)))
	c.once.Do(func() { c.meter.answered.Add(1) })
	return c.TCPConn.Write(p)
}

// unread returns the bytes that clients have not received.
func (m *meter) unread(t *testing.T) int64 {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	total := m.writing.Load()
	for _, c := range m.conns {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		// A closed connection has none.
		_ = raw.Control(func(fd uintptr) {
			if queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
				total += int64(queued)
			}
		})
	}
	return total
}

// serveUnread serves a set of flags with a bulk response of bulkSize bytes.
func serveUnread(t *testing.T, limit int64) *meter {
	t.Helper()
	core, registry := newTestCore(t, `{"flags":{"a":{"state":"ENABLED","variants":{"on":"`+strings.Repeat("x", bulkSize)+`"},"defaultVariant":"on"}}}`)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{Listener: inner}
	l := connections.New(m, 0)
	options := Options{}
	if budget := connections.NewBudget(limit, registry); budget != nil {
		options.Budget, l.Budget = budget, budget
	}
	server := NewServer(NewHandler(core, options), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	running.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		cancel()
		running.Wait()
	})
	return m
}

const (
	bulkSize  = 512 << 10
	unreaders = 200
)

// askWithoutReading opens connections that send two requests each and read nothing.
func askWithoutReading(t *testing.T, m *meter) {
	t.Helper()
	const request = "POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	for range unreaders {
		client, err := net.Dial("tcp", m.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if err := client.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(client, request+request); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits for a condition.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	end := time.After(timeout)
	for !holds() {
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("%s: not within %s", what, timeout)
		}
	}
}

func TestClientsThatDoNotReadCostBoundedBytes(t *testing.T) {
	const limit = 4 << 20
	m := serveUnread(t, limit)
	askWithoutReading(t, m)
	peak := int64(0)
	await(t, "all are answered", func() bool { peak = max(peak, m.unread(t)); return m.answered.Load() == unreaders })
	// Refusals need no reservation, and their sum is small.
	if peak > limit+limit/4 {
		t.Errorf("%d bytes were not received at a time, want at most %d", peak, limit)
	}
	if peak < limit/2 {
		t.Errorf("%d bytes were not received at a time: the clients read", peak)
	}
	await(t, "another client is answered", func() bool { return bulkStatus(t, m) == http.StatusOK })
	if got := m.unread(t); got > limit {
		t.Errorf("%d bytes are not received after the others were reset", got)
	}
}

// TestClientsThatDoNotReadCostAllWithoutALimit holds the other test to its clients.
func TestClientsThatDoNotReadCostAllWithoutALimit(t *testing.T) {
	m := serveUnread(t, 0)
	askWithoutReading(t, m)
	await(t, "all are answered", func() bool { return m.answered.Load() == unreaders })
	if got := m.unread(t); got < unreaders*bulkSize/2 {
		t.Errorf("%d bytes are not received, want most of %d", got, unreaders*bulkSize)
	}
}

// bulkStatus returns the status of a bulk evaluation by a client that reads, and 0 if it
// fails.
func bulkStatus(t *testing.T, m *meter) int {
	t.Helper()
	client, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/ofrep/v1/evaluate/flags", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(client); err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(client), request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return 0
	case response.StatusCode == http.StatusServiceUnavailable && (response.Header.Get("Retry-After") == "" || !response.Close):
		t.Errorf("a refused request is answered with %v", response.Header)
	case response.StatusCode == http.StatusOK && len(body) < bulkSize:
		t.Errorf("the response has %d bytes, want more than %d", len(body), bulkSize)
	}
	return response.StatusCode
}

// What is reserved for a response must suffice for it.
func TestReservedBytesSufficeForTheResponse(t *testing.T) {
	core, _ := newTestCore(t, document)
	budget := connections.NewBudget(1, prometheus.NewRegistry())
	for _, key := range []string{"", "static", "object", "missing"} {
		reserved := core.MaxResponse(key)
		var answer []byte
		if key == "" {
			_, answer, _ = core.Bulk(nil, []byte(`{"context":{"targetingKey":"u"}}`), nil, "")
		} else {
			_, answer = core.Single(nil, key, []byte(`{"context":{"targetingKey":"u"}}`))
		}
		if int64(len(answer)) > reserved-maxExtra {
			t.Errorf("the response for %q has %d bytes, and %d are reserved", key, len(answer), reserved)
		}
		if !budget.Reserve(reserved) {
			t.Errorf("the bytes for %q are not admitted alone", key)
		}
		budget.Release(reserved)
	}
}
