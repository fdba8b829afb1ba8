// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
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
	if age := h.age.at(now); age != nil {
		header[ageName] = age
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

// ageHeader is the value of config.HeaderAge, made once a second.
type ageHeader struct {
	of     func() (time.Duration, bool)
	second atomic.Int64
	value  atomic.Pointer[[]string]
}

// at returns the header's value, nil if there is none.
func (a *ageHeader) at(now time.Time) []string {
	if a.of == nil {
		return nil
	}
	if second := now.Unix(); a.second.Load() != second {
		a.second.Store(second)
		var value []string
		if age, ok := a.of(); ok {
			value = []string{strconv.FormatInt(int64(age/time.Second), 10)}
		}
		a.value.Store(&value)
	}
	if value := a.value.Load(); value != nil {
		return *value
	}
	return nil
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
