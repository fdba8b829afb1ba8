// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/flagcache/flagcache/service/config"
)

// rendered returns a message as JSON without white space, with absent fields left out.
func rendered(t *testing.T, m proto.Message) string {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	compact, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	return string(compact)
}

// outcome returns a response or the code of its error as text.
func outcome[Response any, P interface {
	*Response
	proto.Message
}](t *testing.T, response *connect.Response[Response], err error) string {
	t.Helper()
	if err != nil {
		return codeOf(err)
	}
	return rendered(t, P(response.Msg))
}

const ann = `"metadata":{"owner":"ann"}`

// resolved are the answers of both versions.
var resolved = map[string]struct{ method, key, v1, v2 string }{
	"a boolean":                        {"Boolean", "bool", `{` + ann + `,"reason":"STATIC","variant":"off"}`, `{` + ann + `,"reason":"STATIC","value":false,"variant":"off"}`},
	"a string":                         {"String", "string", `{"metadata":{"b":true,"n":1.5},"reason":"STATIC","value":"ä\"x","variant":"a"}`, "="},
	"a float":                          {"Float", "number", `{` + ann + `,"reason":"STATIC","value":-2.75,"variant":"x"}`, "="},
	"an integer, without its fraction": {"Int", "number", `{` + ann + `,"reason":"STATIC","value":"-2","variant":"x"}`, "="},
	"an object": {
		"Object", "object",
		`{` + ann + `,"reason":"STATIC","value":{"k":[1,null,{"z":"\u003c"}],"t":true},"variant":"x"}`, "=",
	},
	"a rule that matches":             {"Boolean", "targeted", `{` + ann + `,"reason":"TARGETING_MATCH","value":true,"variant":"on"}`, "="},
	"a disabled flag":                 {"Boolean", "disabled", `{` + ann + `,"reason":"DISABLED"}`, "="},
	"a disabled flag as another type": {"Object", "disabled", `{` + ann + `,"reason":"DISABLED"}`, "="},
	"no default variant":              {"Boolean", "no-default", "not_found", `{` + ann + `,"reason":"DEFAULT"}`},
	"another type":                    {"String", "bool", "invalid_argument", "="},
	"a boolean as a number":           {"Int", "bool", "invalid_argument", "="},
	"no such flag":                    {"Boolean", "absent", "not_found", "="},
	"no key":                          {"Boolean", "", "not_found", "="},
	"a rejected flag":                 {"Boolean", "invalid", "data_loss", "="},
	"a rule without a variant":        {"Boolean", "no-variant", "unknown", "="},
	"a rule with an unknown operator": {"Boolean", "no-operator", "data_loss", "="},
}

func (s *service) resolveV1(p protocol, method, key string, attributes *structpb.Struct) string {
	client, ctx := s.v1(p), s.t.Context()
	switch method {
	case "Boolean":
		r, err := client.ResolveBoolean(ctx, connect.NewRequest(&evaluationv1.ResolveBooleanRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	case "String":
		r, err := client.ResolveString(ctx, connect.NewRequest(&evaluationv1.ResolveStringRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	case "Float":
		r, err := client.ResolveFloat(ctx, connect.NewRequest(&evaluationv1.ResolveFloatRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	case "Int":
		r, err := client.ResolveInt(ctx, connect.NewRequest(&evaluationv1.ResolveIntRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	default:
		r, err := client.ResolveObject(ctx, connect.NewRequest(&evaluationv1.ResolveObjectRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	}
}

func (s *service) resolveV2(p protocol, method, key string, attributes *structpb.Struct) string {
	client, ctx := s.v2(p), s.t.Context()
	switch method {
	case "Boolean":
		r, err := client.ResolveBoolean(ctx, connect.NewRequest(&evaluationv2.ResolveBooleanRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	case "String":
		r, err := client.ResolveString(ctx, connect.NewRequest(&evaluationv2.ResolveStringRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	case "Float":
		r, err := client.ResolveFloat(ctx, connect.NewRequest(&evaluationv2.ResolveFloatRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	case "Int":
		r, err := client.ResolveInt(ctx, connect.NewRequest(&evaluationv2.ResolveIntRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	default:
		r, err := client.ResolveObject(ctx, connect.NewRequest(&evaluationv2.ResolveObjectRequest{FlagKey: key, Context: attributes}))
		return outcome(s.t, r, err)
	}
}

func TestResolve(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	attributes := structOf(t, map[string]any{"email": "x@corp.com", "list": []any{1, "a", nil, map[string]any{}}, "targetingKey": "u"})
	for protocol, p := range protocols(t) {
		for name, test := range resolved {
			t.Run(protocol+"/"+name, func(t *testing.T) {
				if got := s.resolveV1(p, test.method, test.key, attributes); got != test.v1 {
					t.Errorf("version 1 answers %s, not %s", got, test.v1)
				}
				want := test.v2
				if want == "=" {
					want = test.v1
				}
				if got := s.resolveV2(p, test.method, test.key, attributes); got != want {
					t.Errorf("version 2 answers %s, not %s", got, want)
				}
			})
		}
	}
}

func TestContextSelectsVariants(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	p := grpc(t)
	tests := map[string]struct {
		attributes map[string]any
		want       string
	}{
		"no context":         {nil, `{` + ann + `,"reason":"DEFAULT","value":false,"variant":"off"}`},
		"another value":      {map[string]any{"email": "x@example.com"}, `{` + ann + `,"reason":"DEFAULT","value":false,"variant":"off"}`},
		"the matching value": {map[string]any{"email": "x@corp.com"}, `{` + ann + `,"reason":"TARGETING_MATCH","value":true,"variant":"on"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := s.resolveV2(p, "Boolean", "targeted", structOf(t, test.attributes)); got != test.want {
				t.Errorf("the answer is %s, not %s", got, test.want)
			}
		})
	}
}

// TestResolveAll compares all answers with those for single flags.
func TestResolveAll(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	attributes := structOf(t, map[string]any{"email": "x@corp.com"})
	want := map[string]string{
		"bool":        `{"boolValue":false,` + ann + `,"reason":"STATIC","variant":"off"}`,
		"string":      `{"metadata":{"b":true,"n":1.5},"reason":"STATIC","stringValue":"ä\"x","variant":"a"}`,
		"number":      `{"doubleValue":-2.75,` + ann + `,"reason":"STATIC","variant":"x"}`,
		"object":      `{` + ann + `,"objectValue":{"k":[1,null,{"z":"\u003c"}],"t":true},"reason":"STATIC","variant":"x"}`,
		"disabled":    `{"boolValue":false,` + ann + `,"reason":"DISABLED"}`,
		"targeted":    `{"boolValue":true,` + ann + `,"reason":"TARGETING_MATCH","variant":"on"}`,
		"no-variant":  `{"boolValue":false,` + ann + `,"reason":"ERROR"}`,
		"no-operator": `{"boolValue":false,` + ann + `,"reason":"ERROR"}`,
		"in-set":      `{"boolValue":true,"metadata":{"flagSetId":"shop","owner":"ann"},"reason":"STATIC","variant":"on"}`,
	}
	for protocol, p := range protocols(t) {
		t.Run(protocol, func(t *testing.T) {
			response, err := s.v1(p).ResolveAll(t.Context(), connect.NewRequest(&evaluationv1.ResolveAllRequest{Context: attributes}))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for key, flag := range response.Msg.GetFlags() {
				got[key] = rendered(t, flag)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if metadata := rendered(t, response.Msg.GetMetadata()); metadata != `{"owner":"ann"}` {
				t.Errorf("the metadata is %s", metadata)
			}
		})
	}
}

func TestSelectors(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	client := s.v1(grpc(t))
	tests := map[string]struct {
		selector, key, code string
		flags               int
	}{
		"none":                     {"", "in-set", "", 9},
		"the flag's set":           {"flagSetId=shop", "in-set", "", 1},
		"another set":              {"flagSetId=other", "in-set", "not_found", 0},
		"flags without a set":      {"flagSetId=", "in-set", "not_found", 8},
		"the source":               {"source=default", "in-set", "", 9},
		"another source":           {"source=other", "in-set", "not_found", 0},
		"a source without its key": {"other", "bool", "not_found", 0},
		"an unknown key":           {"team=shop", "bool", "invalid_argument", -1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			single := connect.NewRequest(&evaluationv1.ResolveBooleanRequest{FlagKey: test.key})
			all := connect.NewRequest(&evaluationv1.ResolveAllRequest{})
			single.Header().Set("Flagd-Selector", test.selector)
			all.Header().Set("Flagd-Selector", test.selector)
			if _, err := client.ResolveBoolean(t.Context(), single); codeOf(err) != test.code {
				t.Errorf("the flag is answered with %q, not %q", codeOf(err), test.code)
			}
			response, err := client.ResolveAll(t.Context(), all)
			switch {
			case test.flags < 0:
				if codeOf(err) != test.code {
					t.Errorf("all flags are answered with %v", err)
				}
			case err != nil:
				t.Error(err)
			case len(response.Msg.GetFlags()) != test.flags:
				t.Errorf("there are %d flags, not %d", len(response.Msg.GetFlags()), test.flags)
			}
		})
	}
}

// post sends a JSON request without a client library.
func post(t *testing.T, url, text string, headers ...string) (status int, header http.Header, answer string) {
	t.Helper()
	return send(t, http.MethodPost, url, text, append([]string{"Content-Type", "application/json"}, headers...)...)
}

func send(t *testing.T, method, url, text string, headers ...string) (status int, header http.Header, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := h1(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(read)
}

// TestJSONOfResponses compares what is written with what protobuf writes.
func TestJSONOfResponses(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	tests := map[string]struct{ method, body, want string }{
		"the zero of a disabled flag": {"v1.Service/ResolveInt", `{"flagKey":"disabled"}`, `{"value":"0","reason":"DISABLED","variant":"","metadata":{"owner":"ann"}}`},
		"no value in version 2":       {"v2.Service/ResolveInt", `{"flagKey":"disabled"}`, `{"reason":"DISABLED","metadata":{"owner":"ann"}}`},
		"unknown members":             {"v2.Service/ResolveBoolean", `{"flagKey":"bool","context":{"x":[1]},"unknown":{}}`, `{"value":false,"reason":"STATIC","variant":"off","metadata":{"owner":"ann"}}`},
		"an object":                   {"v2.Service/ResolveObject", `{"flagKey":"object"}`, `{"value":{"k":[1,null,{"z":"<"}],"t":true},"reason":"STATIC","variant":"x","metadata":{"owner":"ann"}}`},
		"a context that is not one":   {"v2.Service/ResolveBoolean", `{"flagKey":"bool","context":[]}`, `{"code":"invalid_argument","message":"the context is not an object"}`},
		"a key that is not one":       {"v2.Service/ResolveBoolean", `{"flagKey":1}`, `{"code":"invalid_argument","message":"unmarshal message: the message is not a JSON object with the flagKey as a string"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, got := post(t, s.evaluation+"/flagd.evaluation."+test.method, test.body); got != test.want {
				t.Errorf("the answer is %s, not %s", got, test.want)
			}
		})
	}
}

func TestRequestsOfNoProcedure(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	const path = "/flagd.evaluation.v1.Service/ResolveBoolean"
	tests := map[string]struct {
		method, path, contentType string
		status                    int
	}{
		"an unknown path":         {http.MethodPost, "/schema.v1.Service/ResolveBoolean", "application/json", http.StatusNotImplemented},
		"another method":          {http.MethodGet, path, "", http.StatusMethodNotAllowed},
		"an unknown content type": {http.MethodPost, path, "text/plain", http.StatusUnsupportedMediaType},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if status, _, answer := send(t, test.method, s.evaluation+test.path, "{}", "Content-Type", test.contentType); status != test.status {
				t.Errorf("the status is %d, not %d: %s", status, test.status, answer)
			}
		})
	}
}

func TestBeforeFlagsAreLoaded(t *testing.T) {
	s := start(t, "", Options{}, streamOptions)
	if got := s.resolveV2(grpc(t), "Boolean", "bool", nil); got != "unavailable" {
		t.Errorf("the answer is %s", got)
	}
}

func TestCORS(t *testing.T) {
	s := start(t, document, Options{Origins: []string{"https://shop.example"}, Revision: "rev-1"}, streamOptions)
	path := s.evaluation + "/flagd.evaluation.v1.Service/ResolveBoolean"
	_, header, _ := send(t, http.MethodOptions, path, "", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST")
	if header.Get("Access-Control-Allow-Origin") != "https://shop.example" || !strings.Contains(header.Get("Access-Control-Allow-Headers"), "Connect-Protocol-Version") {
		t.Errorf("the headers of the preflight are %v", header)
	}
	_, header, _ = post(t, path, `{"flagKey":"bool"}`, "Origin", "https://shop.example")
	if header.Get("Access-Control-Allow-Origin") != "https://shop.example" || header.Get("Vary") != "Origin" || header.Get(config.HeaderRevision) != "rev-1" {
		t.Errorf("the headers of a response are %v", header)
	}
	for _, url := range []string{path, s.sync + syncService + "FetchAllFlags"} {
		origin := "https://other.example"
		if url != path {
			origin = "https://shop.example"
		}
		if _, header, _ = post(t, url, `{}`, "Origin", origin); header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s may be read by %s", url, origin)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	p := grpc(t)
	s.resolveV2(p, "Boolean", "bool", nil)
	s.resolveV2(p, "Boolean", "absent", nil)
	post(t, s.evaluation+"/flagd.evaluation.v1.Service/ResolveAll", "{")
	post(t, s.evaluation+"/flagd.evaluation.v1.Service/ResolveAll", "{}", "Content-Encoding", "gzip")
	post(t, s.evaluation+"/other", "{}")
	want := `
		# HELP flagd_requests_total Requests of flagd's protocols by service, method, and the code of the response.
		# TYPE flagd_requests_total counter
		flagd_requests_total{code="invalid_argument",method="ResolveAll",service="evaluation.v1"} 1
		flagd_requests_total{code="not_found",method="ResolveBoolean",service="evaluation.v2"} 1
		flagd_requests_total{code="ok",method="ResolveBoolean",service="evaluation.v2"} 1
		flagd_requests_total{code="unimplemented",method="other",service="other"} 1
		flagd_requests_total{code="unreadable",method="ResolveAll",service="evaluation.v1"} 1
	`
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(want), "flagd_requests_total"); err != nil {
		t.Error(err)
	}
	const evaluations = `
		# HELP flag_evaluations_total Evaluations of current flags by key, variant and reason.
		# TYPE flag_evaluations_total counter
		flag_evaluations_total{key="bool",reason="STATIC",variant="off"} 1
	`
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(evaluations), "flag_evaluations_total"); err != nil {
		t.Error(err)
	}
}

func TestDrain(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	path := s.evaluation + "/flagd.evaluation.v1.Service/ResolveBoolean"
	client := h2c(t)
	request := func() string {
		response, err := client.Post(path, "application/json", strings.NewReader(`{"flagKey":"bool"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(response.Status)
	}
	before := request()
	for _, h := range s.handlers {
		h.Drain()
	}
	if during, after := request(), request(); during != before || after != before {
		t.Errorf("while it drains, it answers %s and %s", during, after)
	}
	response, err := h1(t).Post(path, "application/json", strings.NewReader(`{"flagKey":"bool"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _ = response.Body.Close(); !response.Close {
		t.Error("clients are not told to close their connections")
	}
}
