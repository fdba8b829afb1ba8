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

// Header values that never change, set without an allocation.
var (
	jsonType       = []string{"application/json"}
	gzipCoding     = []string{"gzip"}
	anyOrigin      = []string{"*"}
	exposed        = []string{"ETag, Retry-After, " + config.HeaderRevision + ", " + config.HeaderAge}
	closing        = []string{"close"}
	varyOrigin     = []string{"Origin"}
	varyBoth       = []string{"Accept-Encoding, Origin"}
	varyEncoding   = []string{"Accept-Encoding"}
	allowedHeaders = []string{"Content-Type, Authorization, X-API-Key, If-None-Match"}
	aDay           = []string{"86400"}
	revisionName   = http.CanonicalHeaderKey(config.HeaderRevision)
	ageName        = http.CanonicalHeaderKey(config.HeaderAge)
)

func (h *Handler) setHeaders(header http.Header, r *http.Request, now time.Time) {
	if h.revision != nil {
		header[revisionName] = h.revision
	}
	timed := h.at(now)
	header["Date"] = timed.date
	if timed.age != nil {
		header[ageName] = timed.age
	}
	if h.draining.Load() {
		header["Connection"] = closing
	}
	if h.origins.some() {
		header["Vary"] = varyOrigin
	}
	if origin := r.Header["Origin"]; origin != nil {
		if allowed := h.origins.allowed(origin); allowed != nil {
			header["Access-Control-Allow-Origin"] = allowed
			header["Access-Control-Expose-Headers"] = exposed
		}
	}
}

// vary says what a bulk answer depends on besides the request's body.
func (h *Handler) vary(header http.Header) {
	switch {
	case h.options.CompressFrom == 0:
	case h.origins.some():
		header["Vary"] = varyBoth
	default:
		header["Vary"] = varyEncoding
	}
}

// origins are those whose pages may ask. Answers do not depend on cookies, so
// to let any origin ask gives no page more than its reader could get without it.
type origins struct {
	any  bool
	list []string
}

func newOrigins(list []string) origins {
	return origins{any: slices.Contains(list, "*"), list: list}
}

// some says that answers differ by origin.
func (o *origins) some() bool { return !o.any && len(o.list) > 0 }

// allowed returns the value of Access-Control-Allow-Origin, nil if it must not
// be sent.
func (o *origins) allowed(origin []string) []string {
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
	// Without an allowed origin the browser pays no heed to the rest.
	if header["Access-Control-Allow-Origin"] != nil {
		delete(header, "Access-Control-Expose-Headers")
		header.Set("Access-Control-Allow-Methods", method)
		header["Access-Control-Allow-Headers"] = allowedHeaders
		header["Access-Control-Max-Age"] = aDay
	}
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// timed are header values that change with the second, made once in each: to
// format the date is a good part of what net/http does for a small answer.
type timed struct {
	second    int64
	date, age []string
}

// at returns the values of a time.
func (h *Handler) at(now time.Time) *timed {
	second := now.Unix()
	if current := h.timed.Load(); current != nil && current.second == second {
		return current
	}
	next := &timed{second: second, date: []string{now.UTC().Format(http.TimeFormat)}}
	if h.options.Age != nil {
		if age, ok := h.options.Age(); ok {
			next.age = []string{strconv.FormatInt(int64(age/time.Second), 10)}
		}
	}
	h.timed.Store(next)
	return next
}

// shortAnswer is the size up to which net/http counts an answer's bytes itself.
const shortAnswer = 2048

func write(w http.ResponseWriter, status int, answer []byte) int {
	header := w.Header()
	header["Content-Type"] = jsonType
	if len(answer) >= shortAnswer {
		header["Content-Length"] = []string{strconv.Itoa(len(answer))}
	}
	if status == http.StatusServiceUnavailable {
		header["Retry-After"] = seconds[0]
	}
	w.WriteHeader(status)
	// A client that has gone away needs no answer.
	_, _ = w.Write(answer)
	return status
}
