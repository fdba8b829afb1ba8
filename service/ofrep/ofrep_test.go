// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/service/flags"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const document = `{
  "metadata": {"team": "shop"},
  "flags": {
    "static":   {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
    "disabled": {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"},
    "none":     {"state": "ENABLED", "variants": {"on": true}},
    "object":   {"state": "ENABLED", "variants": {"v": {"a": [1, "<b>"]}}, "defaultVariant": "v", "metadata": {"tier": 1}},
    "targeted": {"state": "ENABLED", "variants": {"in": 1, "out": 2}, "defaultVariant": "out",
                 "targeting": {"if": [{"ends_with": [{"var": "email"}, "@corp.com"]}, "in", null]}},
    "failing":  {"state": "ENABLED", "variants": {"on": 1}, "targeting": {"+": [null]}},
    "astray":   {"state": "ENABLED", "variants": {"on": 1}, "targeting": {"cat": ["of", "f"]}},
    "with/slash and %": {"state": "ENABLED", "variants": {"on": "x"}, "defaultVariant": "on"}
  }
}`

func newTestCore(t testing.TB, document string) (*Core, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	core := NewCore(NewMetrics(registry, slog.New(slog.DiscardHandler)), time.Now)
	if document != "" {
		core.Serve(parse(t, document))
	}
	return core, registry
}

func parse(t testing.TB, document string) *flags.Set {
	t.Helper()
	set, problems, err := flags.Parse([]byte(document))
	problems = slices.DeleteFunc(problems, func(p flags.Problem) bool { return p.Served })
	if err != nil || len(problems) > 0 {
		t.Fatalf("parsing the flags: %v %v", err, problems)
	}
	return set
}

func request(handler http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

const base = "/ofrep/v1/evaluate/flags"

func TestResponses(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{Revision: "rev-1"})
	tests := map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"a static flag": {
			"POST", base + "/static", `{"context":{"targetingKey":"u"}}`, 200,
			`{"key":"static","reason":"STATIC","variant":"on","value":true,"metadata":{"team":"shop"}}`,
		},
		"a disabled flag has no value": {
			"POST", base + "/disabled", `{"context":{}}`, 200,
			`{"key":"disabled","reason":"DISABLED","metadata":{"team":"shop"}}`,
		},
		"a flag without default has no value": {
			"POST", base + "/none", `{"context":{}}`, 200,
			`{"key":"none","reason":"DEFAULT","metadata":{"team":"shop"}}`,
		},
		"an object and its own metadata": {
			"POST", base + "/object", `{"context":{}}`, 200,
			`{"key":"object","reason":"STATIC","variant":"v","value":{"a":[1,"<b>"]},"metadata":{"team":"shop","tier":1}}`,
		},
		"a targeting match": {
			"POST", base + "/targeted", `{"context":{"email":"a@corp.com"}}`, 200,
			`{"key":"targeted","reason":"TARGETING_MATCH","variant":"in","value":1,"metadata":{"team":"shop"}}`,
		},
		"no match is the default": {
			"POST", base + "/targeted", `{"context":{"email":"a@x.com"}}`, 200,
			`{"key":"targeted","reason":"DEFAULT","variant":"out","value":2,"metadata":{"team":"shop"}}`,
		},
		"a rule that fails": {
			"POST", base + "/failing", `{"context":{}}`, 400,
			`{"key":"failing","errorCode":"PARSE_ERROR","errorDetails":"the targeting rule cannot be evaluated","metadata":{"team":"shop"}}`,
		},
		"a rule that returns no variant": {
			"POST", base + "/astray", `{"context":{}}`, 400,
			`{"key":"astray","errorCode":"GENERAL","errorDetails":"the targeting rule returned something that is not a variant","metadata":{"team":"shop"}}`,
		},
		"an unknown flag": {
			"POST", base + "/nobody", `{"context":{}}`, 404,
			`{"key":"nobody","errorCode":"FLAG_NOT_FOUND","errorDetails":"the flag does not exist"}`,
		},
		"an encoded key is decoded once": {
			"POST", base + "/with%2Fslash%20and%20%25", `{"context":{}}`, 200,
			`{"key":"with/slash and %","reason":"STATIC","variant":"on","value":"x","metadata":{"team":"shop"}}`,
		},
		"an unencoded slash is part of the key": {
			"POST", base + "/with/slash%20and%20%25", `{"context":{}}`, 200,
			`{"key":"with/slash and %","reason":"STATIC","variant":"on","value":"x","metadata":{"team":"shop"}}`,
		},
		"a key is never a path": {
			"POST", base + "/..%2F..%2Fetc", `{"context":{}}`, 404,
			`{"key":"../../etc","errorCode":"FLAG_NOT_FOUND","errorDetails":"the flag does not exist"}`,
		},
		"no body is an empty context": {
			"POST", base + "/targeted", "", 200,
			`{"key":"targeted","reason":"DEFAULT","variant":"out","value":2,"metadata":{"team":"shop"}}`,
		},
		"a null context is an empty one": {
			"POST", base + "/targeted", `{"context":null}`, 200,
			`{"key":"targeted","reason":"DEFAULT","variant":"out","value":2,"metadata":{"team":"shop"}}`,
		},
		"a context that is not an object": {
			"POST", base + "/static", `{"context":"me"}`, 400,
			`{"key":"static","errorCode":"INVALID_CONTEXT","errorDetails":"the context is not an object"}`,
		},
		"a body that is not JSON": {
			"POST", base + "/static", `{"context":`, 400,
			`{"key":"static","errorCode":"INVALID_CONTEXT","errorDetails":"the body is not valid JSON: unexpected character or end of input at byte 11"}`,
		},
		"a context nested too deeply": {
			"POST", base + "/targeted", `{"context":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 101), 400,
			`{"key":"targeted","errorCode":"INVALID_CONTEXT","errorDetails":"the context is nested deeper than 64 levels"}`,
		},
		"a body that is too large": {
			"POST", base + "/static", `{"context":{"a":"` + strings.Repeat("x", MaxBody) + `"}}`, 413,
			`{"key":"static","errorCode":"GENERAL","errorDetails":"the body is larger than 262144 bytes"}`,
		},
		"another method": {
			"GET", base + "/static", "", 405,
			`{"errorDetails":"the method must be POST"}`,
		},
		"another path": {
			"POST", "/ofrep/v1/evaluate/flagsy", "", 404,
			`{"errorDetails":"not found; OFREP is served at /ofrep/v1/evaluate/flags"}`,
		},
		"the former configuration endpoint": {
			"GET", "/ofrep/v1/configuration", "", 404,
			`{"errorDetails":"not found; OFREP is served at /ofrep/v1/evaluate/flags"}`,
		},
		"all flags, sorted, with failures among them": {
			"POST", base, `{"context":{"email":"a@corp.com"}}`, 200,
			`{"flags":[` + strings.Join([]string{
				`{"key":"astray","errorCode":"GENERAL","errorDetails":"the targeting rule returned something that is not a variant","metadata":{"team":"shop"}}`,
				`{"key":"disabled","reason":"DISABLED","metadata":{"team":"shop"}}`,
				`{"key":"failing","errorCode":"PARSE_ERROR","errorDetails":"the targeting rule cannot be evaluated","metadata":{"team":"shop"}}`,
				`{"key":"none","reason":"DEFAULT","metadata":{"team":"shop"}}`,
				`{"key":"object","reason":"STATIC","variant":"v","value":{"a":[1,"<b>"]},"metadata":{"team":"shop","tier":1}}`,
				`{"key":"static","reason":"STATIC","variant":"on","value":true,"metadata":{"team":"shop"}}`,
				`{"key":"targeted","reason":"TARGETING_MATCH","variant":"in","value":1,"metadata":{"team":"shop"}}`,
				`{"key":"with/slash and %","reason":"STATIC","variant":"on","value":"x","metadata":{"team":"shop"}}`,
			}, ",") + `],"metadata":{"team":"shop"}}`,
		},
		"an invalid context fails all flags, without a key": {
			"POST", base, `{"context":[]}`, 400,
			`{"errorCode":"INVALID_CONTEXT","errorDetails":"the context is not an object"}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := request(handler, test.method, test.path, test.body)
			if w.Code != test.status {
				t.Errorf("the status is %d, not %d", w.Code, test.status)
			}
			if diff := cmp.Diff(test.want, w.Body.String()); diff != "" {
				t.Errorf("unexpected body (-want +got):\n%s", diff)
			}
			if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("the answer is not JSON: %s", w.Header())
			}
			if got := w.Header().Get("FlagCache-Revision"); got != "rev-1" {
				t.Errorf("the revision is %q", got)
			}
		})
	}
}

func TestBulkAcceptsATrailingSlash(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	plain, slash := request(handler, "POST", base, ""), request(handler, "POST", base+"/", "")
	if slash.Code != 200 || slash.Body.String() != plain.Body.String() {
		t.Errorf("the answers differ: %d %s", slash.Code, slash.Body)
	}
	if _, sent := plain.Header()["Flagcache-Revision"]; sent {
		t.Error("a revision header is sent without a revision")
	}
}

func TestNotReady(t *testing.T) {
	core, _ := newTestCore(t, "")
	handler := NewHandler(core, Options{})
	for _, path := range []string{base, base + "/static"} {
		w := request(handler, "POST", path, "")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s answers %d with %v", path, w.Code, w.Header())
		}
		if want := `"errorCode":"GENERAL","errorDetails":"no flags have been loaded yet"`; !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s answers %s", path, w.Body)
		}
	}
	core.Serve(parse(t, document))
	if w := request(handler, "POST", base, ""); w.Code != http.StatusOK {
		t.Errorf("with flags it answers %d", w.Code)
	}
}

func TestEntityTags(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	member, stranger := `{"context":{"email":"a@corp.com"}}`, `{"context":{"email":"a@x.com"}}`
	first := request(handler, "POST", base, member)
	tag := first.Header().Get("ETag")
	if !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) || len(tag) < 10 {
		t.Fatalf("%s is not a strong entity tag", tag)
	}
	for _, header := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		w := request(handler, "POST", base, member, "If-None-Match", header)
		if w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
			t.Errorf("If-None-Match: %s answers %d %q %v", header, w.Code, w.Body, w.Header())
		}
	}
	other := request(handler, "POST", base, stranger, "If-None-Match", tag)
	if other.Code != http.StatusOK || other.Header().Get("ETag") == tag {
		t.Errorf("another context's response has the same tag: %d", other.Code)
	}
	core.Serve(parse(t, strings.Replace(document, `"tier": 1`, `"tier": 2`, 1)))
	if w := request(handler, "POST", base, member, "If-None-Match", tag); w.Code != http.StatusOK {
		t.Errorf("with other flags the old tag is answered with %d", w.Code)
	}
	if w := request(handler, "POST", base+"/static", member); w.Header().Get("ETag") != "" {
		t.Error("a single answer has an entity tag")
	}
}

func TestDrainingClosesConnections(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	if w := request(handler, "POST", base, ""); w.Header().Get("Connection") != "" {
		t.Error("it closes connections before draining")
	}
	handler.Drain()
	if w := request(handler, "POST", base, ""); w.Header().Get("Connection") != "close" {
		t.Error("it does not close connections while draining")
	}
}

func TestRequestsCanBeDiverted(t *testing.T) {
	core, registry := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	handler.Divert = func(w http.ResponseWriter, r *http.Request, body []byte) int {
		if !strings.Contains(string(body), "candidate") {
			return 0
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.URL.Path)
		return http.StatusTeapot
	}
	for _, path := range []string{base, base + "/static"} {
		if w := request(handler, "POST", path, `{"context":{"for":"candidate"}}`); w.Code != http.StatusTeapot || w.Body.String() != path {
			t.Errorf("a diverted request is answered with %d %s", w.Code, w.Body)
		}
		if w := request(handler, "POST", path, `{"context":{}}`); w.Code != http.StatusOK {
			t.Errorf("a request that is not diverted is answered with %d %s", w.Code, w.Body)
		}
	}
	want := `
# HELP ofrep_requests_total OFREP requests by endpoint (single, bulk, events, other), HTTP status code, and who answered (own, candidate).
# TYPE ofrep_requests_total counter
ofrep_requests_total{code="200",endpoint="bulk",track="own"} 1
ofrep_requests_total{code="200",endpoint="single",track="own"} 1
ofrep_requests_total{code="418",endpoint="bulk",track="candidate"} 1
ofrep_requests_total{code="418",endpoint="single",track="candidate"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "ofrep_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestRequestMetrics(t *testing.T) {
	core, registry := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	request(handler, "POST", base+"/static", "")
	request(handler, "POST", base+"/static", "")
	request(handler, "POST", base+"/nobody", "")
	request(handler, "POST", base+"/failing", "")
	request(handler, "POST", base, "{")
	want := `
# HELP flag_evaluations_total Evaluations of current flags by key, variant and reason.
# TYPE flag_evaluations_total counter
flag_evaluations_total{key="failing",reason="ERROR",variant=""} 1
flag_evaluations_total{key="static",reason="STATIC",variant="on"} 2
# HELP ofrep_requests_total OFREP requests by endpoint (single, bulk, events, other), HTTP status code, and who answered (own, candidate).
# TYPE ofrep_requests_total counter
ofrep_requests_total{code="200",endpoint="single",track="own"} 2
ofrep_requests_total{code="400",endpoint="bulk",track="own"} 1
ofrep_requests_total{code="400",endpoint="single",track="own"} 1
ofrep_requests_total{code="404",endpoint="single",track="own"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "flag_evaluations_total", "ofrep_requests_total"); err != nil {
		t.Error(err)
	}
	core.Serve(parse(t, `{"flags":{"other":{"state":"ENABLED","variants":{"on":1},"defaultVariant":"on"}}}`))
	request(handler, "POST", base, "")
	want = `
# HELP flag_evaluations_total Evaluations of current flags by key, variant and reason.
# TYPE flag_evaluations_total counter
flag_evaluations_total{key="other",reason="STATIC",variant="on"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "flag_evaluations_total"); err != nil {
		t.Errorf("series of removed flags remain: %v", err)
	}
}

func TestTelemetry(t *testing.T) {
	health := Health{Details: "no flags yet"}
	registry := prometheus.NewRegistry()
	NewMetrics(registry, slog.New(slog.DiscardHandler))
	handler := Telemetry(func() Health { return health }, registry)
	if w := request(handler, "GET", "/livez", ""); w.Code != 200 || w.Body.String() != "alive\n" {
		t.Errorf("/livez answers %d %s", w.Code, w.Body)
	}
	if w := request(handler, "GET", "/readyz", ""); w.Code != 503 || w.Body.String() != "not ready: no flags yet\n" {
		t.Errorf("/readyz answers %d %s", w.Code, w.Body)
	}
	health = Health{Ready: true, Details: "12 flags"}
	if w := request(handler, "GET", "/readyz", ""); w.Code != 200 || w.Body.String() != "ready: 12 flags\n" {
		t.Errorf("/readyz answers %d %s", w.Code, w.Body)
	}
	if w := request(handler, "GET", "/metrics", ""); w.Code != 200 {
		t.Errorf("/metrics answers %d", w.Code)
	}
	if w := request(handler, "POST", "/readyz", ""); w.Code != 405 {
		t.Errorf("POST /readyz answers %d", w.Code)
	}
}
