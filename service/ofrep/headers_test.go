// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const shop = "https://shop.example"

func TestPreflightRequests(t *testing.T) {
	tests := map[string]struct {
		origins []string
		allowed string
		vary    string
	}{
		"all origins":      {[]string{"*"}, "*", ""},
		"this origin":      {[]string{"https://other.example", shop}, shop, "Origin"},
		"another origin":   {[]string{"https://other.example"}, "", "Origin"},
		"a longer origin":  {[]string{shop + ".evil.example"}, "", "Origin"},
		"no origin at all": {nil, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			core, _ := newTestCore(t, document)
			handler := NewHandler(core, Options{Origins: test.origins})
			w := request(handler, "OPTIONS", base+"/static", "", "Origin", shop,
				"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,if-none-match")
			want := map[string]string{"Access-Control-Allow-Origin": test.allowed, "Vary": test.vary}
			if test.allowed != "" {
				want["Access-Control-Allow-Methods"] = "POST"
				want["Access-Control-Allow-Headers"] = "Content-Type, Authorization, X-API-Key, If-None-Match"
				want["Access-Control-Max-Age"] = "86400"
			}
			expectHeaders(t, w.Header(), want)
			if w.Code != http.StatusNoContent {
				t.Errorf("the preflight is answered with %d", w.Code)
			}
		})
	}
}

func expectHeaders(t *testing.T, got http.Header, want map[string]string) {
	t.Helper()
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods",
		"Access-Control-Allow-Headers", "Access-Control-Max-Age", "Vary"} {
		if got.Get(name) != want[name] {
			t.Errorf("%s is %q, not %q", name, got.Get(name), want[name])
		}
	}
}

func TestHeadersAreExposedToBrowsers(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{Origins: []string{"*"}})
	for _, path := range []string{base, base + "/static", base + "/nobody", "/elsewhere"} {
		w := request(handler, "POST", path, "", "Origin", shop)
		exposed := w.Header().Get("Access-Control-Expose-Headers")
		for _, name := range []string{"ETag", "Retry-After", "FlagCache-Revision", "FlagCache-Age", "FlagCache-Behind"} {
			if !strings.Contains(exposed, name) {
				t.Errorf("%s does not expose %s to browsers", path, name)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s answers a browser with %v", path, w.Header())
		}
	}
	if w := request(handler, "POST", base, ""); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("a request without an origin is answered with CORS headers")
	}
}

func TestAgeHeader(t *testing.T) {
	core, _ := newTestCore(t, document)
	var age time.Duration
	var known bool
	handler := NewHandler(core, Options{Age: func() (time.Duration, bool) { return age, known }})
	now := time.Unix(1_700_000_000, 0)
	handler.clock = func() time.Time { return now }
	steps := []struct {
		known bool
		age   time.Duration
		want  string
	}{{false, 0, ""}, {true, 0, "0"}, {true, 2900 * time.Millisecond, "2"}, {true, 24 * time.Hour, "86400"}}
	for _, step := range steps {
		known, age, now = step.known, step.age, now.Add(time.Second)
		for range 2 {
			header := request(handler, "POST", base+"/static", "").Header()
			if got := header.Get("FlagCache-Age"); got != step.want {
				t.Errorf("flags of age %s, known %t, are sent as %q", age, known, got)
			}
			if date, err := http.ParseTime(header.Get("Date")); err != nil || !date.Equal(now) {
				t.Errorf("the date is %s, not %s (%v)", date, now, err)
			}
		}
	}
}
