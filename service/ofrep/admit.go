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

// Answers to requests that come to no evaluation.
var (
	nothingHere  = general("there is nothing at this path; OFREP is at " + config.PathEvaluate)
	wrongMethod  = general("the method must be POST")
	tooOften     = general("too many requests; ask again after the time in Retry-After")
	tooBusy      = general("too many requests are being answered; ask again after the time in Retry-After")
	noKeys       = general("nobody is let in: the service has no usable credentials")
	unknownToken = general("a bearer token or an X-API-Key that the service knows is needed")
	streamsAlone = general("this token is for event streams alone")
)

// general is an error that is not about an evaluation.
func general(details string) []byte {
	return marshal(struct {
		ErrorDetails string `json:"errorDetails"`
	}{details})
}

// admit lets a request in, or answers it and returns the status. The client is
// nil where everybody is let in.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, at endpoint, now time.Time) (client *access.Client, status int) {
	if h.options.Keys != nil {
		if client, status = h.identify(w, r, at); status != 0 {
			return nil, status
		}
		if wait := access.Wait(client.Limit, now); wait > 0 {
			return nil, refuse(w, http.StatusTooManyRequests, tooOften, wait)
		}
	}
	if wait := access.Wait(h.options.Limit, now); wait > 0 {
		return nil, refuse(w, http.StatusTooManyRequests, tooOften, wait)
	}
	return client, 0
}

// identify finds who asks. Providers take 401 and 403 as final, so a service
// that has lost its credentials, which is not the client's fault, answers 503.
func (h *Handler) identify(w http.ResponseWriter, r *http.Request, at endpoint) (client *access.Client, status int) {
	keys := h.options.Keys
	token := tokenOf(r.Header)
	switch {
	case keys.Trouble() != "":
		return nil, write(w, http.StatusServiceUnavailable, noKeys)
	case token == "" && at == endpointEvents:
		// A browser cannot send a header with a request for events.
		client = keys.FindStream(r.URL.Query().Get(streamTokenParameter))
	default:
		client = keys.Find(token)
	}
	if client != nil {
		return client, 0
	}
	if at != endpointEvents && keys.FindStream(token) != nil {
		return nil, write(w, http.StatusForbidden, streamsAlone)
	}
	w.Header()["Www-Authenticate"] = bearer
	return nil, write(w, http.StatusUnauthorized, unknownToken)
}

var bearer = []string{"Bearer"}

// tokenOf returns the credential in a request's headers, empty if there is none.
func tokenOf(header http.Header) string {
	if authorization := header["Authorization"]; authorization != nil {
		scheme, token, _ := strings.Cut(authorization[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token)
		}
	}
	return header.Get("X-Api-Key")
}

// enter is false if too many requests are inside already.
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

// Values of Retry-After.
const (
	longestWait = 60
	// waitSpread is by how many seconds waits differ, so that those who are refused
	// together do not come back together.
	waitSpread = 3
)

// seconds are the values of Retry-After from 1.
var seconds = func() (values [longestWait + waitSpread][]string) {
	for i := range values {
		values[i] = []string{strconv.Itoa(i + 1)}
	}
	return values
}()

// refuse tells a client to come again after a time.
func refuse(w http.ResponseWriter, status int, answer []byte, wait time.Duration) int {
	whole := min(int((wait+time.Second-1)/time.Second), longestWait)
	w.Header()["Retry-After"] = seconds[whole-1+rand.IntN(waitSpread)]
	return write(w, status, answer)
}

// refuseBody answers a request whose body was not read to its end. Another
// request cannot follow it.
func refuseBody(w http.ResponseWriter, status int, answer []byte) int {
	w.Header()["Connection"] = closing
	if status == http.StatusTooManyRequests {
		return refuse(w, status, answer, time.Second)
	}
	return write(w, status, answer)
}
