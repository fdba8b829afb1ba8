// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/flagcache/flagcache/service/config"
)

// Constant header values, which are set without an allocation.
var (
	jsonType       = []string{"application/json"}
	gzipCoding     = []string{"gzip"}
	anyOrigin      = []string{"*"}
	exposed        = []string{"ETag, Retry-After, " + config.HeaderRevision + ", " + config.HeaderAge + ", " + config.HeaderBehind}
	closing        = []string{"close"}
	varyOrigin     = []string{"Origin"}
	varyBoth       = []string{"Accept-Encoding, Origin"}
	varyEncoding   = []string{"Accept-Encoding"}
	allowedHeaders = []string{"Content-Type, Authorization, X-API-Key, If-None-Match"}
	maxAgeDay      = []string{"86400"}
	revisionName   = http.CanonicalHeaderKey(config.HeaderRevision)
	ageName        = http.CanonicalHeaderKey(config.HeaderAge)
)

func (h *Handler) setHeaders(header http.Header, r *http.Request, now time.Time) {
	if h.revision != nil {
		header[revisionName] = h.revision
	}
	timed := h.timedAt(now)
	header["Date"] = timed.date
	if timed.age != nil {
		header[ageName] = timed.age
	}
	if h.draining.Load() {
		header["Connection"] = closing
	}
	if h.origins.Vary() {
		header["Vary"] = varyOrigin
	}
	if origin := r.Header["Origin"]; origin != nil {
		if allowed := h.origins.Allowed(origin); allowed != nil {
			header["Access-Control-Allow-Origin"] = allowed
			header["Access-Control-Expose-Headers"] = exposed
		}
	}
}

// vary sets the Vary header of a bulk response.
func (h *Handler) vary(header http.Header) {
	switch {
	case h.options.CompressFrom == 0:
	case h.origins.Vary():
		header["Vary"] = varyBoth
	default:
		header["Vary"] = varyEncoding
	}
}

// Origins are the origins whose pages may send requests. Responses do not
// depend on cookies, so allowing all origins gives pages no more access than
// their users have anyway.
type Origins struct {
	any  bool
	list []string
}

// NewOrigins returns the origins in a list, see Options.Origins.
func NewOrigins(list []string) Origins {
	return Origins{any: slices.Contains(list, "*"), list: list}
}

// Vary reports whether responses differ by origin.
func (o *Origins) Vary() bool { return !o.any && len(o.list) > 0 }

// Allowed returns the value of Access-Control-Allow-Origin for the values of the header
// Origin, nil if it must not be sent.
func (o *Origins) Allowed(origin []string) []string {
	switch {
	case o.any:
		return anyOrigin
	case slices.Contains(o.list, origin[0]):
		return origin[:1]
	default:
		return nil
	}
}

func preflight(w http.ResponseWriter, method string) (status int) {
	header := w.Header()
	// Without an allowed origin the browser ignores the other headers.
	if header["Access-Control-Allow-Origin"] != nil {
		delete(header, "Access-Control-Expose-Headers")
		header.Set("Access-Control-Allow-Methods", method)
		header["Access-Control-Allow-Headers"] = allowedHeaders
		header["Access-Control-Max-Age"] = maxAgeDay
	}
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// timedHeaders are header values that change every second and are formatted
// once per second: formatting the date is a considerable part of the cost of a
// small response in net/http.
type timedHeaders struct {
	second    int64
	date, age []string
}

// timedAt returns the header values at a time.
func (h *Handler) timedAt(now time.Time) *timedHeaders {
	second := now.Unix()
	if current := h.timed.Load(); current != nil && current.second == second {
		return current
	}
	next := &timedHeaders{second: second, date: []string{now.UTC().Format(http.TimeFormat)}}
	if h.options.Age != nil {
		if age, ok := h.options.Age(); ok {
			next.age = []string{strconv.FormatInt(int64(age/time.Second), 10)}
		}
	}
	h.timed.Store(next)
	return next
}

// shortResponse is the size up to which net/http sets Content-Length itself.
const shortResponse = 2048

func write(w http.ResponseWriter, status int, answer []byte) int {
	header := w.Header()
	header["Content-Type"] = jsonType
	if len(answer) >= shortResponse {
		header["Content-Length"] = []string{strconv.Itoa(len(answer))}
	}
	if status == http.StatusServiceUnavailable && header["Retry-After"] == nil {
		header["Retry-After"] = seconds[0]
	}
	w.WriteHeader(status)
	// A failed write means that the client has disconnected.
	_, _ = w.Write(answer)
	return status
}
