// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// discard is an http.ResponseWriter without cost.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// body is a request body that can be reset.
type body struct{ strings.Reader }

func (*body) Close() error { return nil }

// BenchmarkHandler measures the handler and the core without net/http, with the
// service's default options.
func BenchmarkHandler(b *testing.B) {
	core, _ := newTestCore(b, document)
	handler := NewHandler(core, Options{
		Revision: "rev-1", Origins: []string{"*"}, MaxInFlight: 1024, CompressFrom: 1500,
		Age:     func() (time.Duration, bool) { return time.Second, true },
		Streams: NewStreams(StreamOptions{Max: 1000}, time.Now),
	})
	constant := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header()["Content-Type"] = jsonType
		_, _ = w.Write(notFound)
	})
	const context = `{"context":{"targetingKey":"user-1","email":"ann@corp.com"}}`
	for _, bench := range []struct {
		name, path string
		handler    http.Handler
	}{{"constant", base, constant}, {"static", base + "/static", handler}, {"targeted", base + "/targeted", handler}, {"bulk", base, handler}} {
		b.Run(bench.name, func(b *testing.B) {
			r := httptest.NewRequest("POST", bench.path, nil)
			r.ContentLength = int64(len(context))
			w, content := &discard{header: http.Header{}}, &body{}
			b.ReportAllocs()
			for b.Loop() {
				content.Reset(context)
				r.Body = content
				clear(w.header)
				bench.handler.ServeHTTP(w, r)
			}
		})
	}
}
