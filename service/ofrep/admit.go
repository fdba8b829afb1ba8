// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
)

// Responses to requests that are not evaluated.
var (
	notFound        = general("not found; OFREP is served at " + config.PathEvaluate)
	onlyPost        = general("the method must be POST")
	onlyGet         = general("the method must be GET")
	rateLimited     = general("too many requests; retry after the time in Retry-After")
	tooBusy         = general("too many concurrent requests; retry after the time in Retry-After")
	tooManyUnread   = general("too many responses have not been received by their clients; retry after the time in Retry-After")
	noCredentials   = general("requests cannot be authenticated: the service has no valid credentials")
	unknownToken    = general("a valid bearer token or X-API-Key is required")
	streamTokenOnly = general("this token is only valid for event streams")
)

// general returns an error response that does not concern an evaluation.
func general(details string) []byte {
	return marshal(struct {
		ErrorDetails string `json:"errorDetails"`
	}{details})
}

// admit authenticates and limits a request. It returns 0 if the request is
// admitted; otherwise it has answered and returns the status. The client is nil
// if requests are not authenticated.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, at endpoint, now time.Time) (client *access.Client, status int) {
	if h.options.Keys != nil {
		if client, status = h.identify(w, r, at); status != 0 {
			return nil, status
		}
		if wait := access.Wait(client.Limit, now); wait > 0 {
			return nil, refuse(w, http.StatusTooManyRequests, rateLimited, wait)
		}
	}
	if wait := access.Wait(h.options.Limit, now); wait > 0 {
		return nil, refuse(w, http.StatusTooManyRequests, rateLimited, wait)
	}
	return client, 0
}

// identify authenticates a request. Providers treat 401 and 403 as fatal, so a
// service that has lost its credentials, which is not the client's fault,
// answers 503.
func (h *Handler) identify(w http.ResponseWriter, r *http.Request, at endpoint) (client *access.Client, status int) {
	keys := h.options.Keys
	token := TokenOf(r.Header)
	switch {
	case keys.Problem() != "":
		return nil, write(w, http.StatusServiceUnavailable, noCredentials)
	case token == "" && at == endpointEvents:
		// A browser cannot set headers of an EventSource request.
		client = keys.FindStream(r.URL.Query().Get(streamTokenParameter))
	default:
		client = keys.Find(token)
	}
	if client != nil {
		return client, 0
	}
	if at != endpointEvents && keys.FindStream(token) != nil {
		return nil, write(w, http.StatusForbidden, streamTokenOnly)
	}
	w.Header()["Www-Authenticate"] = bearer
	return nil, write(w, http.StatusUnauthorized, unknownToken)
}

var bearer = []string{"Bearer"}

// TokenOf returns the credential in a request's headers, empty if there is none.
func TokenOf(header http.Header) string {
	if authorization := header["Authorization"]; authorization != nil {
		scheme, token, _ := strings.Cut(authorization[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token)
		}
	}
	return header.Get("X-Api-Key")
}

// enter counts a request in flight. It returns false if there are too many.
func (h *Handler) enter() bool {
	if h.options.MaxInFlight == 0 || h.inFlight.Add(1) <= int64(h.options.MaxInFlight) {
		return true
	}
	h.inFlight.Add(-1)
	return false
}

func (h *Handler) leave() {
	if h.options.MaxInFlight > 0 {
		h.inFlight.Add(-1)
	}
}

// reserve reserves the largest response to a request. It returns false if too much is in
// flight.
func (h *Handler) reserve(b *buffers, key string) bool {
	if h.options.Budget == nil {
		return true
	}
	bytes := h.core.MaxResponse(key)
	if !h.options.Budget.Reserve(bytes) {
		return false
	}
	b.reserved = bytes
	return true
}

// free releases what was reserved and not released yet.
func (h *Handler) free(b *buffers) {
	if b.reserved > 0 {
		h.options.Budget.Release(b.reserved)
		b.reserved = 0
	}
}

// Values of Retry-After.
const (
	maxWait = 60
	// waitSpread is the jitter of waits in seconds, so that clients that are
	// rejected together do not retry together.
	waitSpread = 3
)

// seconds are the values of Retry-After, starting with 1.
var seconds = func() (values [maxWait + waitSpread][]string) {
	for i := range values {
		values[i] = []string{strconv.Itoa(i + 1)}
	}
	return values
}()

// refuse rejects a request with a Retry-After header.
func refuse(w http.ResponseWriter, status int, answer []byte, wait time.Duration) int {
	whole := min(int((wait+time.Second-1)/time.Second), maxWait)
	w.Header()["Retry-After"] = seconds[whole-1+rand.IntN(waitSpread)]
	return write(w, status, answer)
}

// refuseBody rejects a request whose body was not read completely, so that the
// connection cannot be reused.
func refuseBody(w http.ResponseWriter, status int, answer []byte) int {
	w.Header()["Connection"] = closing
	if status == http.StatusTooManyRequests {
		return refuse(w, status, answer, time.Second)
	}
	return write(w, status, answer)
}
