// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"

	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/redistest"
)

func TestLargeRequestsAreRefused(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	large := structOf(t, map[string]any{"x": strings.Repeat("x", ofrep.MaxBody)})
	for name, p := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			if got := s.resolveV2(p, "Boolean", "bool", large); got != "resource_exhausted" {
				t.Errorf("a large context is answered with %s", got)
			}
		})
	}
	nested := any(1)
	for range 65 {
		nested = []any{nested}
	}
	for name, p := range protocols(t) {
		t.Run("deep nesting, "+name, func(t *testing.T) {
			if got := s.resolveV2(p, "Boolean", "bool", structOf(t, map[string]any{"x": nested})); got != "invalid_argument" {
				t.Errorf("deep nesting is answered with %s", got)
			}
		})
	}
}

// TestFurtherLargeRequestsAreRefused fills the places of large requests.
func TestFurtherLargeRequestsAreRefused(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	large := structOf(t, map[string]any{"x": strings.Repeat("x", 2*smallBody)})
	for range maxLargeBodies {
		s.handlers[0].large <- struct{}{}
	}
	if got := s.resolveV2(grpc(t), "Boolean", "bool", large); got != "resource_exhausted" {
		t.Errorf("a further large request is answered with %s", got)
	}
	<-s.handlers[0].large
	for range 2 {
		if got := s.resolveV2(grpc(t), "Boolean", "bool", large); !strings.Contains(got, "STATIC") {
			t.Errorf("a large request is answered with %s", got)
		}
	}
}

func TestFurtherRequestsAreRefused(t *testing.T) {
	s := start(t, document, Options{MaxOpen: 2, MaxInFlight: 1, MaxBytes: 1000}, streamOptions)
	h, p := s.handlers[0], grpc(t)
	tests := map[string]struct {
		occupy, free func()
		code         string
	}{
		"open":      {func() { h.open.Add(2) }, func() { h.open.Add(-2) }, "resource_exhausted"},
		"in flight": {func() { h.inFlight.Add(1) }, func() { h.inFlight.Add(-1) }, "resource_exhausted"},
		"bytes":     {func() { h.responses.try(900) }, func() { h.responses.release(900) }, "unavailable"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.occupy()
			if got := s.resolveV2(p, "Boolean", "bool", nil); got != test.code {
				t.Errorf("a further request is answered with %s", got)
			}
			test.free()
			for range 3 {
				if got := s.resolveV2(p, "Boolean", "bool", nil); !strings.Contains(got, "STATIC") {
					t.Errorf("a request is answered with %s", got)
				}
			}
		})
	}
}

// TestManyStreams opens 10,000 streams, of which 20 are admitted.
func TestManyStreams(t *testing.T) {
	const streams, workers = 10_000, 20
	s := start(t, document, Options{}, streamOptions)
	p := grpc(t)
	held := make([]*messages, 0, streamOptions.Max)
	for range streamOptions.Max {
		held = append(held, s.events(p))
	}
	for _, m := range held {
		m.next()
	}
	var refused atomic.Int64
	var opening sync.WaitGroup
	for range workers {
		opening.Go(func() {
			for range streams / workers {
				stream, err := s.v2(p).EventStream(t.Context(), connect.NewRequest(&evaluationv2.EventStreamRequest{}))
				if err != nil {
					t.Error(err)
					return
				}
				if !stream.Receive() && codeOf(stream.Err()) == "resource_exhausted" {
					refused.Add(1)
				}
				_ = stream.Close()
			}
		})
	}
	opening.Wait()
	if refused.Load() != streams {
		t.Errorf("%d of %d streams beyond the limit are refused", refused.Load(), streams)
	}
	if got := s.resolveV2(p, "Boolean", "bool", nil); !strings.Contains(got, "STATIC") {
		t.Errorf("a flag is answered with %s", got)
	}
	s.serve(changed)
	for _, m := range held {
		if got := m.next(); !strings.Contains(got, "configuration_change") {
			t.Errorf("an admitted stream gets %s", got)
		}
	}
}

// narrow returns a client of HTTP/2 that accepts 64 KiB of a response that is not read.
func narrow(t *testing.T) protocol {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{
		MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10,
	}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return protocol{&http.Client{Transport: transport}, []connect.ClientOption{connect.WithGRPC()}}
}

// wide is a document with a response of 128 KiB.
var wide = `{"flags":{"wide":{"state":"ENABLED","variants":{"x":"` + strings.Repeat("x", 128<<10) + `"},"defaultVariant":"x"}}}`

// TestSlowReadersOfStreams: clients that do not read lose their streams, and hold no more
// than the limit meanwhile; the others get the newest document.
func TestSlowReadersOfStreams(t *testing.T) {
	const slow = 10
	settings := streamOptions
	settings.WriteTimeout = 100 * time.Millisecond
	s := start(t, wide, Options{MaxBytes: 1 << 20}, settings)
	for range slow {
		p := narrow(t)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.syncClient(p).SyncFlags(ctx, connect.NewRequest(&syncv1.SyncFlagsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = stream.Close() })
	}
	reader := s.documents(grpc(t), "")
	if got := reader.next(); !strings.Contains(got, `"wide"`) {
		t.Errorf("a client that reads gets %s", got[:min(len(got), 100)])
	}
	s.serve(document)
	for got := reader.next(); !strings.Contains(got, `"bool"`); got = reader.next() {
		t.Log("the previous document arrived before the newest one")
	}
	redistest.Eventually(t, 2*timeout, "slow readers keep their streams", func() bool {
		for range settings.Max - 1 {
			if !s.streams.Acquire() {
				return false
			}
			defer s.streams.Release()
		}
		return true
	})
	if !s.handlers[1].messages.try(1 << 20) {
		t.Error("the bytes of slow readers are still reserved")
	}
}

// TestSlowReadersOfResponses: the bytes of responses that are not read are limited, and
// freed when the time to write them is over.
func TestSlowReadersOfResponses(t *testing.T) {
	s := start(t, wide, Options{MaxBytes: 300 << 10}, streamOptions)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	ask := func(p protocol) {
		begun := make(chan struct{})
		defer func() { <-begun }()
		waiting.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.evaluation+"/flagd.evaluation.v1.Service/ResolveAll", strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
				close(begun)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			response, err := p.client.Do(r)
			if err != nil {
				t.Error(err)
				close(begun)
				return
			}
			close(begun)
			<-ctx.Done()
			_ = response.Body.Close()
		})
	}
	ask(narrow(t))
	ask(narrow(t))
	p := grpc(t)
	refused := func() bool {
		_, err := s.v1(p).ResolveAll(t.Context(), connect.NewRequest(&evaluationv1.ResolveAllRequest{}))
		return codeOf(err) == "unavailable"
	}
	redistest.Eventually(t, timeout, "a response beyond the limit is prepared", refused)
	redistest.Eventually(t, 2*timeout, "the bytes of slow readers are still reserved", func() bool { return !refused() })
}
