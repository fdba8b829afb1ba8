// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/ofrep"
)

// Messages of refusals.
var (
	errUnknownMethod = errors.New("there is no such method")
	errNoStreams     = errors.New("streams are disabled")
	errManyStreams   = errors.New("too many streams; retry later")
	errRate          = errors.New("too many requests; retry after the time in Retry-After")
	errCredentials   = errors.New("requests cannot be authenticated: the service has no valid credentials")
	errToken         = errors.New("a valid bearer token or X-API-Key is required")
	errStreamToken   = errors.New("this token is only valid for OFREP's event streams")
)

// admit authenticates and limits a request. The client is nil if requests are not
// authenticated.
func (h *Handler) admit(r *http.Request, now time.Time) (client *access.Client, err error) {
	if h.options.Keys != nil {
		if client, err = h.identify(r); err != nil {
			return nil, err
		}
		if wait := access.Wait(client.Limit, now); wait > 0 {
			return nil, tooManyRequests(wait)
		}
	}
	if wait := access.Wait(h.options.Limit, now); wait > 0 {
		return nil, tooManyRequests(wait)
	}
	return client, nil
}

// identify authenticates a request. As for OFREP, a service that has lost its credentials
// is unavailable, rather than its clients unauthenticated.
func (h *Handler) identify(r *http.Request) (*access.Client, error) {
	keys, token := h.options.Keys, ofrep.TokenOf(r.Header)
	if keys.Problem() != "" {
		return nil, connect.NewError(connect.CodeUnavailable, errCredentials)
	}
	if client := keys.Find(token); client != nil {
		return client, nil
	}
	if keys.FindStream(token) != nil {
		return nil, connect.NewError(connect.CodePermissionDenied, errStreamToken)
	}
	return nil, connect.NewError(connect.CodeUnauthenticated, errToken)
}

// Limits of Retry-After in seconds: waitSpread varies it, so that clients that are
// refused together do not retry together.
const (
	maxWait    = 60
	waitSpread = 3
)

func tooManyRequests(wait time.Duration) error {
	err := connect.NewError(connect.CodeResourceExhausted, errRate)
	seconds := min(int((wait+time.Second-1)/time.Second), maxWait) + rand.IntN(waitSpread)
	err.Meta().Set("Retry-After", strconv.Itoa(seconds))
	return err
}

// codeName returns the name of an error's code, "ok" for none.
func codeName(err error) string {
	if err == nil {
		return "ok"
	}
	return connect.CodeOf(err).String()
}
