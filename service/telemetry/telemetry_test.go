// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collect traces a request to each path and returns the data that the collector
// received.
func collect(t *testing.T, log *slog.Logger, status int, paths ...string) string {
	t.Helper()
	var got bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/traces" {
			_, _ = io.Copy(&got, r.Body)
		}
		w.WriteHeader(status)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	tracing, err := NewTracing(t.Context(), "v1.2.3", log)
	if err != nil {
		t.Fatal(err)
	}
	answering := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	handler := tracing.Handler(answering, func(r *http.Request) string {
		if r.URL.Path == "/untraced" {
			return ""
		}
		return "/flags/{key}"
	})
	for _, path := range paths {
		r := httptest.NewRequest("POST", path, strings.NewReader("a secret body"))
		r.Header.Set("Authorization", "Bearer canary-token")
		r.Header.Set("Traceparent", "00-6162636465666768696a6b6c6d6e6f70-7172737475767778-01")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusTeapot {
			t.Errorf("the request is answered with %d", w.Code)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	tracing.Run(ended)
	return got.String()
}

func TestRequestsAreTraced(t *testing.T) {
	got := collect(t, slog.New(slog.DiscardHandler), http.StatusOK, "/flags/a?token=canary-token")
	for _, want := range []string{"POST /flags/{key}", "/flags/a", "flag-service", "v1.2.3", "abcdefghijklmnop", "qrstuvwx"} {
		if !strings.Contains(got, want) {
			t.Errorf("the trace does not contain %q", want)
		}
	}
	for _, secret := range []string{"canary-token", "a secret body"} {
		if strings.Contains(got, secret) {
			t.Errorf("the trace contains %q", secret)
		}
	}
}

func TestRequestsWithoutAPatternAreNotTraced(t *testing.T) {
	if got := collect(t, slog.New(slog.DiscardHandler), http.StatusOK, "/untraced"); got != "" {
		t.Errorf("the collector received %q", got)
	}
}

func TestExportErrorsAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	collect(t, slog.New(slog.NewTextHandler(&log, nil)), http.StatusBadRequest, "/flags/a", "/flags/b")
	if count := strings.Count(log.String(), "traces are being lost"); count != 1 {
		t.Errorf("the error is logged %d times: %s", count, log.String())
	}
}

func TestSettingsAreNotLogged(t *testing.T) {
	const token = "canary-token"
	var log bytes.Buffer
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer "+token+",authorization=%zz"+token)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:"+token+"@127.0.0.1:1")
	collect(t, slog.New(slog.NewTextHandler(&log, nil)), http.StatusOK, "/flags/a")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:"+token+"@[::1")
	collect(t, slog.New(slog.NewTextHandler(&log, nil)), http.StatusOK, "/flags/a")
	for _, want := range []string{"traces are being lost", "parse headers", "escape header value", "parse url"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(log.String(), token) {
		t.Errorf("the log has the token:\n%s", &log)
	}
}

func TestProfiles(t *testing.T) {
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
		w := httptest.NewRecorder()
		Profiles().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s is answered with %d", path, w.Code)
		}
	}
}

// TestBlockedLogDoesNotBlockWriters writes to a pipe that is not read at first.
func TestBlockedLogDoesNotBlockWriters(t *testing.T) {
	reading, writing := io.Pipe()
	logs := NewLogs(writing)
	registry := prometheus.NewRegistry()
	logs.Register(registry)
	const extra = 10
	// One line has been or will be taken from the queue.
	for range maxQueuedLines + 1 + extra {
		if n, err := logs.Write([]byte("line\n")); n != 5 || err != nil {
			t.Fatalf("writing a line returns %d %v", n, err)
		}
	}
	logs.Close(time.Millisecond)
	dropped := int(logs.dropped.Load())
	if dropped != extra && dropped != extra+1 {
		t.Errorf("%d lines were dropped", dropped)
	}
	want := fmt.Sprintf("# HELP log_lines_dropped_total Log lines that were dropped because the log was not read fast enough.\n"+
		"# TYPE log_lines_dropped_total counter\nlog_lines_dropped_total %d\n", dropped)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	lines := bufio.NewScanner(reading)
	for range maxQueuedLines + 1 + extra - dropped {
		if !lines.Scan() || lines.Text() != "line" {
			t.Fatalf("the pipe contains %q", lines.Text())
		}
	}
	<-logs.stopped
}
