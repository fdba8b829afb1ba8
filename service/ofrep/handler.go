// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
)

const (
	// MaxBody is the most bytes that a request's body may have. Contexts have a few
	// hundred.
	MaxBody = 256 << 10
	// retryAfter is what a client is told to wait, in seconds, while there are no
	// flags.
	retryAfter = "1"
)

// Endpoints, as metrics name them.
const (
	endpointSingle = "single"
	endpointBulk   = "bulk"
	endpointOther  = "other"
)

// Handler answers OFREP over HTTP.
type Handler struct {
	// Divert, if there is one, is asked after a request's body was read and before
	// it is evaluated. It returns the status that it has answered with, or 0 if it
	// has written nothing and the request is to be answered here. It must not keep
	// body. Set it before the first request.
	Divert func(w http.ResponseWriter, r *http.Request, body []byte) (status int)

	core     *Core
	revision []string
	draining atomic.Bool
	buffers  sync.Pool
	clock    func() time.Time
	counts   map[string]*endpointCounts
}

// endpointCounts are an endpoint's metrics, found once.
type endpointCounts struct {
	duration prometheus.Observer
	byCode   [600]counter
	requests *prometheus.CounterVec
	endpoint string
}

// Options are what a Handler does besides answering. The zero value does nothing
// of it.
type Options struct {
	// Revision is sent with every answer, in config.HeaderRevision.
	Revision string
}

// NewHandler returns the HTTP side of core.
func NewHandler(core *Core, options Options) *Handler {
	h := &Handler{core: core, clock: core.now, counts: map[string]*endpointCounts{}}
	h.buffers.New = func() any { return new(bytes.Buffer) }
	if options.Revision != "" {
		h.revision = []string{options.Revision}
	}
	for _, endpoint := range []string{endpointSingle, endpointBulk, endpointOther} {
		h.counts[endpoint] = &endpointCounts{
			duration: core.metrics.duration.WithLabelValues(endpoint),
			requests: core.metrics.requests,
			endpoint: endpoint,
		}
	}
	return h
}

// Drain makes the handler ask clients to close their connections, so that no
// request is lost on one that is closed at the end.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.clock()
	endpoint, key := route(r.URL.Path)
	status := h.answer(w, r, endpoint, key)
	h.counts[endpoint].observe(status, h.clock().Sub(start))
}

func (c *endpointCounts) observe(status int, took time.Duration) {
	c.duration.Observe(took.Seconds())
	slot := &c.byCode[status].resolved
	resolved := slot.Load()
	if resolved == nil {
		found := c.requests.WithLabelValues(c.endpoint, strconv.Itoa(status))
		resolved = &found
		slot.Store(resolved)
	}
	(*resolved).Inc()
}

// route finds the endpoint. Path is decoded, and everything behind the bulk
// endpoint's path is a key, slashes too. A slash alone is still the bulk endpoint.
func route(path string) (endpoint, key string) {
	rest, ok := strings.CutPrefix(path, config.PathEvaluate)
	switch {
	case !ok, rest != "" && rest[0] != '/':
		return endpointOther, ""
	case len(rest) <= 1:
		return endpointBulk, ""
	default:
		return endpointSingle, rest[1:]
	}
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, endpoint, key string) (status int) {
	h.setHeaders(w, r)
	switch {
	case endpoint == endpointOther:
		return write(w, http.StatusNotFound, general("there is nothing at this path; OFREP is at "+config.PathEvaluate))
	case r.Method == http.MethodOptions:
		return preflight(w)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST, OPTIONS")
		return write(w, http.StatusMethodNotAllowed, general("the method must be POST"))
	}
	buffer := h.buffers.Get().(*bytes.Buffer)
	defer h.giveBack(buffer)
	if status, details := readBody(w, r, buffer); status != 0 {
		return write(w, status, failure(key, codeGeneral, details))
	}
	if h.Divert != nil {
		if status := h.Divert(w, r, buffer.Bytes()); status != 0 {
			return status
		}
	}
	if endpoint == endpointBulk {
		return h.bulk(w, r, buffer)
	}
	status, answer := h.core.Single(key, buffer.Bytes())
	return write(w, status, answer)
}

func (h *Handler) bulk(w http.ResponseWriter, r *http.Request, body *bytes.Buffer) (status int) {
	out := h.buffers.Get().(*bytes.Buffer)
	defer h.giveBack(out)
	status, answer, tag := h.core.Bulk(out.AvailableBuffer(), body.Bytes(), nil, r.Header.Get("If-None-Match"))
	out.Write(answer)
	if tag != "" {
		w.Header().Set("ETag", tag)
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return status
	}
	return write(w, status, answer)
}

// giveBack keeps a buffer for other requests, unless it has grown out of all
// proportion.
func (h *Handler) giveBack(buffer *bytes.Buffer) {
	if buffer.Cap() <= MaxBody {
		buffer.Reset()
		h.buffers.Put(buffer)
	}
}

// readBody reads the request's body; the status is 0 if that went well.
func readBody(w http.ResponseWriter, r *http.Request, to *bytes.Buffer) (status int, details string) {
	_, err := to.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return 0, ""
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, "the body has more than " + strconv.Itoa(MaxBody) + " bytes"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "the body took too long to arrive"
	default:
		return http.StatusBadRequest, "the body could not be read"
	}
}

// Header values that never change, set without an allocation.
var (
	jsonType     = []string{"application/json"}
	anyOrigin    = []string{"*"}
	exposed      = []string{"ETag, Retry-After, " + config.HeaderRevision}
	closing      = []string{"close"}
	waitASecond  = []string{retryAfter}
	revisionName = http.CanonicalHeaderKey(config.HeaderRevision)
)

func (h *Handler) setHeaders(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if h.revision != nil {
		header[revisionName] = h.revision
	}
	if h.draining.Load() {
		header["Connection"] = closing
	}
	// Any origin may ask: an answer does not depend on cookies, and whoever can
	// reach the service can read it without a browser.
	if _, fromBrowser := r.Header["Origin"]; fromBrowser {
		header["Access-Control-Allow-Origin"] = anyOrigin
		header["Access-Control-Expose-Headers"] = exposed
	}
}

func preflight(w http.ResponseWriter) (status int) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "POST")
	header.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, X-API-Key, If-None-Match")
	header.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

func write(w http.ResponseWriter, status int, answer []byte) int {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(answer))}
	if status == http.StatusServiceUnavailable {
		header["Retry-After"] = waitASecond
	}
	w.WriteHeader(status)
	// A client that has gone away needs no answer.
	_, _ = w.Write(answer)
	return status
}

// general is an error that is not about an evaluation.
func general(details string) []byte {
	return marshal(struct {
		ErrorDetails string `json:"errorDetails"`
	}{details})
}

// Time limits on requests. Clients give up after ten seconds.
const (
	readHeaderTimeout = 2 * time.Second
	readTimeout       = 5 * time.Second
	writeTimeout      = 8 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
)

// NewServer returns a server whose limits on time and size bound what one
// client can hold on to.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}
