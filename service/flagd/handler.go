// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/ofrep"
)

// Options configure a Handler. The zero value disables all optional features.
type Options struct {
	// Revision is sent with every response, in config.HeaderRevision.
	Revision string
	// Age returns the age of the served flags, sent in config.HeaderAge with the response
	// to every evaluation while ok.
	Age func() (age time.Duration, ok bool)
	// Source is the name of the source of all flags for selectors.
	Source string
	// Origins are those of ofrep.Options.
	Origins []string
	// Keys authenticates requests; nil disables authentication.
	Keys *access.Keys
	// Limit is the rate limit of all requests together; nil is none.
	Limit *rate.Limiter
	// MaxOpen is the maximum number of concurrent requests that are read or answered,
	// MaxInFlight that of those that are evaluated; 0 is no limit.
	MaxOpen, MaxInFlight int
	// MaxBytes limits the bytes of responses that are being written, and separately those
	// of the messages of streams; 0 is no limit.
	MaxBytes int64
	// Streams notify clients of changes; nil disables streams.
	Streams *ofrep.Streams
}

// Handler serves some of the protocols over HTTP. It is safe for concurrent use.
type Handler struct {
	core    *ofrep.Core
	options Options
	metrics *Metrics
	// procedures are the handlers by path.
	procedures map[string]*procedure
	// connectOptions are those of all handlers; refusals writes errors before one is called.
	connectOptions []connect.HandlerOption
	refusals       *connect.ErrorWriter
	origins        ofrep.Origins
	recent         recent
	open, inFlight counter
	large          chan struct{}
	responses      *bytesLimit
	messages       *bytesLimit
	draining       atomic.Bool
}

// procedure is a method of a protocol.
type procedure struct {
	http.Handler
	counts *counts
	// streams means that the response is a stream.
	streams bool
}

func newHandler(core *ofrep.Core, options Options, metrics *Metrics) *Handler {
	h := &Handler{
		core: core, options: options, metrics: metrics, procedures: map[string]*procedure{}, origins: ofrep.NewOrigins(options.Origins),
		large: make(chan struct{}, maxLargeBodies), responses: newBytesLimit(options.MaxBytes), messages: newBytesLimit(options.MaxBytes),
	}
	h.connectOptions = []connect.HandlerOption{
		connect.WithReadMaxBytes(ofrep.MaxBody),
		connect.WithCodec(codec{name: "proto"}),
		connect.WithCodec(codec{name: "json", json: true}),
		connect.WithCodec(codec{name: "json; charset=utf-8", json: true}),
		// A compressed body may be many times larger than it is.
		connect.WithCompression("gzip", nil, nil),
	}
	h.refusals = connect.NewErrorWriter(h.connectOptions...)
	return h
}

// NewEvaluation returns the handler of flagd.evaluation.v1 and v2.
func NewEvaluation(core *ofrep.Core, options Options, metrics *Metrics) *Handler {
	h := newHandler(core, options, metrics)
	for _, version := range []string{version1, version2} {
		for path, handler := range h.evaluationHandlers(version) {
			h.add(path, handler, false)
		}
	}
	h.addEventStreams()
	return h
}

// add adds the handler of a procedure, whose path is /SERVICE/METHOD.
func (h *Handler) add(path string, handler http.Handler, streams bool) {
	service, method, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	service = strings.TrimSuffix(strings.TrimPrefix(service, "flagd."), ".Service")
	h.procedures[path] = &procedure{Handler: handler, counts: h.metrics.of(service, method, streams), streams: streams}
}

// Drain makes the handler tell clients to close their connections after open requests.
func (h *Handler) Drain() { h.draining.Store(true) }

// call is what the handler of a procedure gets of its request and tells about it.
type call struct {
	client  *access.Client
	control *http.ResponseController
	// code is the name of the response's code, empty if the request could not be read.
	code string
	// reserved are bytes of limit.
	reserved int64
	limit    *bytesLimit
}

type callKey struct{}

// callOf returns the call of a request.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// reserve reserves bytes until the response has been written.
func (c *call) reserve(limit *bytesLimit, bytes int64) bool {
	if !limit.try(bytes) {
		return false
	}
	c.limit, c.reserved = limit, bytes
	return true
}

func (c *call) release() { c.limit.release(c.reserved) }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	h.setHeaders(w.Header(), r)
	p, known := h.procedures[r.URL.Path]
	switch {
	case !known:
		h.refuse(w, r, connect.NewError(connect.CodeUnimplemented, errUnknownMethod))
		h.metrics.unknown.Inc()
	case r.Method == http.MethodOptions:
		preflight(w)
	case !h.refusals.IsSupported(r):
		// It is answered without reading it.
		p.ServeHTTP(w, r)
		p.counts.observe(codeUnreadable, time.Since(start))
	default:
		p.counts.observe(h.serve(w, r, p, start), time.Since(start))
	}
}

// codeUnreadable is the code of a request that cannot be read.
const codeUnreadable = "unreadable"

// serve admits and answers a request, and returns the code of the response.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, p *procedure, now time.Time) (code string) {
	client, err := h.admit(r, now)
	if err == nil {
		err = h.enter(p)
	}
	if err != nil {
		h.refuse(w, r, err)
		return codeName(err)
	}
	defer h.leave(p)
	c := &call{client: client, control: http.NewResponseController(w)}
	content := &body{ReadCloser: r.Body, large: h.large}
	defer c.release()
	defer content.release()
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	r.Body = content
	p.ServeHTTP(w, r)
	if c.code == "" {
		return codeUnreadable
	}
	return c.code
}

// enter counts an open request or stream.
func (h *Handler) enter(p *procedure) error {
	switch {
	case !p.streams && !h.open.enter(h.options.MaxOpen):
		return connect.NewError(connect.CodeResourceExhausted, errManyActive)
	case p.streams && h.options.Streams == nil:
		return connect.NewError(connect.CodeUnimplemented, errNoStreams)
	case p.streams && !h.options.Streams.Acquire():
		return connect.NewError(connect.CodeResourceExhausted, errManyStreams)
	}
	return nil
}

func (h *Handler) leave(p *procedure) {
	if p.streams {
		h.options.Streams.Release()
		return
	}
	h.open.leave()
}

// refuse answers a request with an error, in its protocol.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	// The body has not been read.
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	// A failed write means that the client has disconnected.
	_ = h.refusals.Write(w, r, err)
}

// setHeaders sets the headers of all responses.
func (h *Handler) setHeaders(header http.Header, r *http.Request) {
	if h.options.Revision != "" {
		header.Set(config.HeaderRevision, h.options.Revision)
	}
	if h.options.Age != nil {
		if age, ok := h.options.Age(); ok {
			header.Set(config.HeaderAge, strconv.FormatInt(int64(age/time.Second), 10))
		}
	}
	if h.draining.Load() {
		header.Set("Connection", "close")
	}
	if h.origins.Vary() {
		header.Set("Vary", "Origin")
	}
	if origin := r.Header["Origin"]; origin != nil {
		if allowed := h.origins.Allowed(origin); allowed != nil {
			header["Access-Control-Allow-Origin"] = allowed
			header.Set("Access-Control-Expose-Headers", exposedHeaders)
		}
	}
}

// Headers of CORS for Connect and gRPC-Web.
const (
	exposedHeaders = "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Retry-After, " + config.HeaderRevision + ", " + config.HeaderAge
	allowedHeaders = "Content-Type, Authorization, X-API-Key, Connect-Protocol-Version, Connect-Timeout-Ms, " +
		"Grpc-Timeout, X-Grpc-Web, X-User-Agent, Connect-Accept-Encoding, Connect-Content-Encoding, " + selectorHeader
	maxPreflightAge = "86400"
)

func preflight(w http.ResponseWriter) {
	header := w.Header()
	if header["Access-Control-Allow-Origin"] != nil {
		header.Del("Access-Control-Expose-Headers")
		header.Set("Access-Control-Allow-Methods", http.MethodPost)
		header.Set("Access-Control-Allow-Headers", allowedHeaders)
		header.Set("Access-Control-Max-Age", maxPreflightAge)
	}
	w.WriteHeader(http.StatusNoContent)
}
