// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package telemetry exports traces of requests, serves profiles of the process
// and writes its log.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"
)

const (
	// flushTimeout limits sending the last spans.
	flushTimeout = 3 * time.Second
	// errorLogInterval is the minimum interval between logged export errors.
	errorLogInterval = time.Minute
)

// Tracing sends a span for each request to an OpenTelemetry collector, by OTLP
// over HTTP. Endpoint, sampling and service name are set by OpenTelemetry's own
// environment variables. With a slow or unavailable collector spans are lost,
// but requests are not affected.
type Tracing struct{ provider *trace.TracerProvider }

// NewTracing returns Tracing configured by the environment. The service name
// defaults to flag-service.
func NewTracing(ctx context.Context, version string, log *slog.Logger) (*Tracing, error) {
	otel.SetLogger(logr.FromSlogHandler(messagesOnly{log.Handler()}))
	complaints := rate.Sometimes{Interval: errorLogInterval}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		complaints.Do(func() { log.Warn("traces are being lost", "error", err) })
	}))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("setting up the export of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "flag-service"), attribute.String("service.version", version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("describing the source of traces: %w", err)
	}
	return &Tracing{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))}, nil
}

// messagesOnly passes on what OpenTelemetry reports about its settings, without the
// settings: headers have tokens, and an endpoint may have a password.
type messagesOnly struct{ slog.Handler }

// Handle implements slog.Handler.
func (m messagesOnly) Handle(ctx context.Context, r slog.Record) error {
	return m.Handler.Handle(ctx, slog.NewRecord(r.Time, r.Level, "OpenTelemetry: "+r.Message, r.PC))
}

// WithAttrs implements slog.Handler.
func (m messagesOnly) WithAttrs([]slog.Attr) slog.Handler { return m }

// WithGroup implements slog.Handler.
func (m messagesOnly) WithGroup(string) slog.Handler { return m }

// Handler traces the requests to next. pattern returns the pattern of a
// request's path, which becomes the span's name; requests without one are not
// traced.
func (t *Tracing) Handler(next http.Handler, pattern func(*http.Request) string) http.Handler {
	traced := otelhttp.NewHandler(next, "request",
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.TraceContext{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Pattern = pattern(r); r.Pattern == "" {
			next.ServeHTTP(w, r)
			return
		}
		traced.ServeHTTP(w, r)
	})
}

// Run waits for ctx to be done and sends the remaining spans.
func (t *Tracing) Run(ctx context.Context) {
	<-ctx.Done()
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(flush); err != nil {
		otel.Handle(err)
	}
}
