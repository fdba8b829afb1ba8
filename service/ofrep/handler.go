// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
)

// endpoint is the endpoint of a request, for metrics.
type endpoint int

const (
	endpointSingle endpoint = iota
	endpointBulk
	endpointEvents
	endpointOther
)

// endpointNames are the values of the label endpoint.
var endpointNames = [...]string{"single", "bulk", "events", "other"}

// Options configure a Handler. The zero value disables all optional features.
type Options struct {
	// Revision is sent with every response, in config.HeaderRevision.
	Revision string
	// Age returns the age of the served flags, sent in config.HeaderAge with every
	// response while ok. It is called once per second.
	Age func() (age time.Duration, ok bool)
	// Origins are the origins whose pages may send requests, as browsers send them,
	// or "*" for all.
	Origins []string
	// Keys authenticates requests; nil disables authentication.
	Keys *access.Keys
	// Limit is the rate limit of all requests together; nil is none.
	Limit *rate.Limiter
	// MaxInFlight is the maximum number of requests that are evaluated, forwarded
	// or written concurrently; 0 is no limit.
	MaxInFlight int
	// Budget limits the bytes of responses in flight; nil is no limit.
	Budget Budget
	// CompressFrom is the size in bytes from which a bulk response is compressed if
	// the client accepts it; 0 disables compression.
	CompressFrom int
	// Streams notify clients of changes; nil disables them.
	Streams *Streams
	// Expedite is called when a client has been notified of more recent flags than the
	// served ones, so that the instance looks for them; nil does nothing. It must not
	// block.
	Expedite func()
}

// Budget limits the bytes of responses in flight, see listen.Budget.
type Budget interface {
	// Reserve reserves bytes for a response; false means that the request is refused.
	Reserve(bytes int64) bool
	// Release releases them when the response is written.
	Release(bytes int64)
}

// Handler serves OFREP over HTTP.
type Handler struct {
	// Divert, if set, is called after a request's body was read and before it is
	// evaluated. It returns the status that it has answered with, or 0 if it has
	// written nothing and the handler must answer. It must not retain body. It must
	// be set before the first request.
	Divert func(w http.ResponseWriter, r *http.Request, body []byte) (status int)

	core     *Core
	options  Options
	revision []string
	timed    atomic.Pointer[timedHeaders]
	origins  Origins
	inFlight atomic.Int64
	draining atomic.Bool
	bodies   bodies
	// freshness lets requests wait that demand more recent flags.
	freshness *freshness
	clock     func() time.Time
	counts    [len(endpointNames)]*endpointCounts
	// diverted are the counts of requests that Divert answered.
	diverted [len(endpointNames)]*endpointCounts
}

// endpointCounts are the metrics of an endpoint, resolved once.
type endpointCounts struct {
	duration prometheus.Observer
	byCode   [1000]counter
	requests *prometheus.CounterVec
	endpoint string
	track    string
}

// NewHandler returns the HTTP handler of a core.
func NewHandler(core *Core, options Options) *Handler {
	h := &Handler{core: core, options: options, clock: core.now, origins: NewOrigins(options.Origins)}
	h.bodies.large = make(chan struct{}, maxLargeBodies)
	h.freshness = newFreshness(core, options.Expedite)
	if options.Revision != "" {
		h.revision = []string{options.Revision}
	}
	for i := range endpointNames {
		h.counts[i] = newCounts(core.metrics, endpoint(i), config.TrackOwn)
		h.diverted[i] = newCounts(core.metrics, endpoint(i), config.TrackCandidate)
	}
	return h
}

func newCounts(m *Metrics, at endpoint, track string) *endpointCounts {
	c := &endpointCounts{requests: m.requests, endpoint: endpointNames[at], track: track}
	if evaluates := at == endpointSingle || at == endpointBulk; evaluates || (track == config.TrackOwn && at != endpointEvents) {
		c.duration = m.duration.WithLabelValues(c.endpoint, track)
	}
	return c
}

// Drain makes the handler tell clients to close their connections, so that no
// request is lost when they are closed at the end.
func (h *Handler) Drain() { h.draining.Store(true) }

// Stop ends the waits of requests for more recent flags: they are answered at once.
func (h *Handler) Stop() { h.freshness.stop() }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.clock()
	at, key := route(r.URL.Path)
	h.setHeaders(w.Header(), r, start)
	got := h.answer(w, r, at, key, start)
	counts := h.counts[at]
	if got.handed {
		counts = h.diverted[at]
	}
	// time.Since reads only the monotonic clock. What a client chose to wait for is no
	// measure of this instance.
	counts.observe(got.status, time.Since(start)-got.waited)
}

// answered describes how a request was answered.
type answered struct {
	status int
	// handed means that Divert answered.
	handed bool
	// waited is how long the request waited for more recent flags.
	waited time.Duration
}

func (c *endpointCounts) observe(status int, took time.Duration) {
	if c.duration != nil {
		c.duration.Observe(took.Seconds())
	}
	slot := &c.byCode[status].resolved
	resolved := slot.Load()
	if resolved == nil {
		found := c.requests.WithLabelValues(c.endpoint, strconv.Itoa(status), c.track)
		resolved = &found
		slot.Store(resolved)
	}
	(*resolved).Inc()
}

// route returns the endpoint of a decoded path. Everything after the bulk
// endpoint's path and a slash is a key, which may contain slashes. A single
// trailing slash is still the bulk endpoint.
func route(path string) (at endpoint, key string) {
	rest, ok := strings.CutPrefix(path, config.PathEvaluate)
	switch {
	case path == config.PathEvents:
		return endpointEvents, ""
	case !ok, rest != "" && rest[0] != '/':
		return endpointOther, ""
	case len(rest) <= 1:
		return endpointBulk, ""
	default:
		return endpointSingle, rest[1:]
	}
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, at endpoint, key string, now time.Time) answered {
	method, wrongMethod := http.MethodPost, onlyPost
	if at == endpointEvents {
		method, wrongMethod = http.MethodGet, onlyGet
	}
	switch {
	case at == endpointOther, at == endpointEvents && h.options.Streams == nil:
		return answered{status: write(w, http.StatusNotFound, notFound)}
	case r.Method == http.MethodOptions:
		return answered{status: preflight(w, method)}
	case r.Method != method:
		w.Header().Set("Allow", method+", OPTIONS")
		return answered{status: write(w, http.StatusMethodNotAllowed, wrongMethod)}
	}
	client, status := h.admit(w, r, at, now)
	switch {
	case status != 0:
		return answered{status: status}
	case at == endpointEvents:
		return answered{status: h.options.Streams.serve(w, r, func() (bool, <-chan struct{}) { return h.options.Keys.Valid(client) })}
	default:
		return h.evaluate(w, r, key, client)
	}
}

// evaluate reads the body and answers, or diverts the request; an empty key is
// the bulk endpoint.
func (h *Handler) evaluate(w http.ResponseWriter, r *http.Request, key string, client *access.Client) answered {
	b := h.bodies.get()
	defer h.bodies.release(b)
	if status, details := b.read(r, &h.bodies); status != 0 {
		return answered{status: refuseBody(w, status, failure(key, codeGeneral, details))}
	}
	var wanted demand
	var waited time.Duration
	if key == "" {
		wanted = demandOf(r.URL.RawQuery)
	}
	if wanted != (demand{}) && !forwarded(r) {
		// Nothing is reserved meanwhile that other requests need.
		waited = h.freshness.await(r.Context(), wanted, clientOf(r, client), b.isLarge)
	}
	if !h.enter() {
		return answered{status: refuse(w, http.StatusTooManyRequests, tooBusy, time.Second), waited: waited}
	}
	defer h.leave()
	if !h.reserve(b, key) {
		w.Header()["Connection"] = closing
		return answered{status: refuse(w, http.StatusServiceUnavailable, tooManyUnread, time.Second), waited: waited}
	}
	defer h.free(b)
	if h.Divert != nil {
		if status := h.Divert(w, r, b.in); status != 0 {
			return answered{status: status, handed: true, waited: waited}
		}
	}
	if key == "" {
		return answered{status: h.bulk(w, r, b, client, wanted), waited: waited}
	}
	var status int
	status, b.out = h.core.Single(b.out[:0], key, b.in)
	h.free(b)
	return answered{status: write(w, status, b.out)}
}

// bulk evaluates all flags. A compressed response is another representation, so
// it has another strong entity tag.
func (h *Handler) bulk(w http.ResponseWriter, r *http.Request, b *buffers, client *access.Client, wanted demand) (status int) {
	known, compressed := plainTags(r.Header["If-None-Match"])
	if wanted != (demand{}) {
		known = h.compare(w, wanted, known)
	}
	b.extra = h.options.Streams.appendTo(b.extra[:0], client)
	status, answer, tag := h.core.Bulk(b.out[:0], b.in, b.extra, known)
	b.out = answer
	h.free(b)
	header := w.Header()
	switch {
	case tag == "":
		return write(w, status, answer)
	case status == http.StatusNotModified:
		if compressed {
			tag = compressedTag(tag)
		}
		header["Etag"] = []string{tag}
		h.vary(header)
		w.WriteHeader(status)
		return status
	}
	h.vary(header)
	if h.options.CompressFrom > 0 && len(answer) >= h.options.CompressFrom && AcceptsGzip(r.Header["Accept-Encoding"]) {
		header["Etag"] = []string{compressedTag(tag)}
		return writeCompressed(w, status, answer)
	}
	header["Etag"] = []string{tag}
	return write(w, status, answer)
}

// compare compares the served flags with the demanded ones. It says that they are older,
// and returns the tags of If-None-Match that may be answered with 304.
func (h *Handler) compare(w http.ResponseWriter, wanted demand, known string) string {
	position, _ := h.core.Position()
	if !wanted.met(position) {
		w.Header()[headerBehind] = []string{position.Version.String()}
	}
	if !wanted.unchanged(position) {
		return ""
	}
	return known
}

// Pattern returns the pattern of a request's path for traces. It is empty for
// requests that are not traced: event streams, which last for hours, and
// unknown paths.
func Pattern(r *http.Request) string {
	switch at, _ := route(r.URL.Path); at {
	case endpointSingle:
		return config.PathEvaluate + "/{key}"
	case endpointBulk:
		return config.PathEvaluate
	default:
		return ""
	}
}
