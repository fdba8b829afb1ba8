// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
)

const webToken, appToken = "web-token-0123456789", "app-token-0123456789"

// keys returns the keys of two clients, each with a limit.
func keys(t *testing.T, perSecond float64, burst int) *access.Keys {
	t.Helper()
	dir := t.TempDir()
	for name, token := range map[string]string{"web": webToken, "app": appToken} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newLimit := func() *rate.Limiter { return access.NewLimit(perSecond, burst) }
	return access.NewKeys(dir, newLimit, slog.New(slog.DiscardHandler))
}

func TestAuthentication(t *testing.T) {
	core, _ := newTestCore(t, document)
	keys := keys(t, 0, 0)
	handler := NewHandler(core, Options{Keys: keys, Origins: []string{"*"}})
	streamToken := keys.Find(webToken).StreamToken
	tests := map[string]struct {
		headers []string
		status  int
	}{
		"a bearer token":                    {[]string{"Authorization", "Bearer " + webToken}, 200},
		"a scheme in another case":          {[]string{"Authorization", "bearer  " + webToken}, 200},
		"an API key":                        {[]string{"X-API-Key", appToken}, 200},
		"another scheme beside an API key":  {[]string{"Authorization", "Basic eDp5", "X-API-Key", appToken}, 200},
		"no credentials":                    {nil, 401},
		"an empty bearer token":             {[]string{"Authorization", "Bearer "}, 401},
		"another scheme":                    {[]string{"Authorization", "Basic " + webToken}, 401},
		"a wrong token":                     {[]string{"Authorization", "Bearer " + webToken + "0"}, 401},
		"a token that is only for a stream": {[]string{"Authorization", "Bearer " + streamToken}, 403},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{base, base + "/static"} {
				w := request(handler, "POST", path, "", test.headers...)
				if w.Code != test.status || !json.Valid(w.Body.Bytes()) {
					t.Errorf("%s is answered with %d %s", path, w.Code, w.Body)
				}
				if w.Code == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s has no WWW-Authenticate header: %v", path, w.Header())
				}
			}
		})
	}
	if w := request(handler, "OPTIONS", base, "", "Origin", shop); w.Code != http.StatusNoContent {
		t.Errorf("a preflight, which cannot carry a token, is answered with %d", w.Code)
	}
	if w := request(handler, "POST", base+"?token="+streamToken, ""); w.Code != 401 {
		t.Errorf("a stream token in the URL is accepted for evaluations: %d", w.Code)
	}
}

// TestLostCredentials expects 503 rather than 401, which providers treat as
// fatal.
func TestLostCredentials(t *testing.T) {
	core, _ := newTestCore(t, document)
	lost := access.NewKeys(t.TempDir(), func() *rate.Limiter { return nil }, slog.New(slog.DiscardHandler))
	handler := NewHandler(core, Options{Keys: lost})
	for _, header := range []string{"", "Bearer " + webToken} {
		w := request(handler, "POST", base+"/static", "", "Authorization", header)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "value") {
			t.Errorf("with %q it answers %d %v", header, w.Code, w.Header())
		}
	}
}

func TestRateLimits(t *testing.T) {
	tests := map[string]Options{
		"of all requests": {Limit: access.NewLimit(0.5, 3)},
		"of one client":   {Keys: keys(t, 0.5, 3)},
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			core, _ := newTestCore(t, document)
			now := time.Unix(1_700_000_000, 0)
			handler := NewHandler(core, options)
			handler.clock = func() time.Time { return now }
			send := func() *httptest.ResponseRecorder {
				return request(handler, "POST", base+"/static", "", "Authorization", "Bearer "+webToken)
			}
			for range 3 {
				if w := send(); w.Code != 200 {
					t.Errorf("within the limit it answers %d", w.Code)
				}
			}
			w := send()
			wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
			if w.Code != 429 || err != nil || wait < 2 || wait > 4 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("over the limit it answers %d %v %s", w.Code, w.Header(), w.Body)
			}
			now = now.Add(time.Duration(wait) * time.Second)
			if w := send(); w.Code != 200 {
				t.Errorf("after the time in Retry-After it answers %d", w.Code)
			}
		})
	}
}

func TestRateLimitsArePerClient(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{Keys: keys(t, 0.001, 1)})
	status := map[string][]int{}
	for range 2 {
		for _, token := range []string{webToken, appToken} {
			w := request(handler, "POST", base+"/static", "", "X-API-Key", token)
			status[token] = append(status[token], w.Code)
		}
	}
	for token, got := range status {
		if got[0] != 200 || got[1] != 429 {
			t.Errorf("%s is answered with %v", token, got)
		}
	}
}

// TestMaxInFlight keeps requests in flight by diverting them.
func TestMaxInFlight(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{MaxInFlight: 2})
	inside, release := make(chan struct{}), make(chan struct{})
	handler.Divert = func(http.ResponseWriter, *http.Request, []byte) int {
		inside <- struct{}{}
		<-release
		return 0
	}
	answers := make(chan int)
	for range 2 {
		go func() { answers <- request(handler, "POST", base+"/static", "").Code }()
		<-inside
	}
	if w := request(handler, "POST", base+"/static", ""); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a request over the limit is answered with %d %v", w.Code, w.Header())
	}
	close(release)
	for range 2 {
		if status := <-answers; status != 200 {
			t.Errorf("a request in flight is answered with %d", status)
		}
	}
	go func() { <-inside }()
	if w := request(handler, "POST", base+"/static", ""); w.Code != 200 {
		t.Errorf("a later request is answered with %d", w.Code)
	}
}
