// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/redistest"
)

// changed is the document with a flag that is added, one that is updated, one that is
// removed, and another evaluator.
var changed = strings.NewReplacer(
	`"defaultVariant":"off"},
	"string"`, `"defaultVariant":"on"},
	"added":{"state":"ENABLED","variants":{"x":1},"defaultVariant":"x"},
	"string"`,
	`"number":{"state":"ENABLED","variants":{"x":-2.75,"y":3},"defaultVariant":"x"},`, ``,
	`"@corp.com"`, `"@corp.example"`,
).Replace(document)

// messages are the messages of a stream as text, and its end.
type messages struct {
	t       *testing.T
	texts   chan string
	ended   chan error
	cancel  func()
	current context.Context
}

// read reads a stream until it ends.
func read[Response any](t *testing.T, open func(context.Context) (*connect.ServerStreamForClient[Response], error), text func(*Response) string) *messages {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m := &messages{t: t, texts: make(chan string, 100), ended: make(chan error, 1), cancel: cancel, current: ctx}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		stream, err := open(ctx)
		if err != nil {
			m.ended <- err
			return
		}
		for stream.Receive() {
			m.texts <- text(stream.Msg())
		}
		m.ended <- stream.Err()
		_ = stream.Close()
	}()
	t.Cleanup(func() { cancel(); <-finished })
	return m
}

// next returns the next message.
func (m *messages) next() string {
	m.t.Helper()
	select {
	case text := <-m.texts:
		return text
	case err := <-m.ended:
		m.t.Fatalf("the stream ended with %v", err)
	case <-time.After(timeout):
		m.t.Fatal("there is no message")
	}
	return ""
}

// end returns the code with which the stream ended.
func (m *messages) end() string {
	m.t.Helper()
	select {
	case err := <-m.ended:
		return codeOf(err)
	case <-time.After(timeout):
		m.t.Fatal("the stream did not end")
	}
	return ""
}

func (s *service) events(p protocol, headers ...string) *messages {
	return read(s.t, func(ctx context.Context) (*connect.ServerStreamForClient[evaluationv2.EventStreamResponse], error) {
		r := connect.NewRequest(&evaluationv2.EventStreamRequest{})
		for i := 0; i < len(headers); i += 2 {
			r.Header().Set(headers[i], headers[i+1])
		}
		return s.v2(p).EventStream(ctx, r)
	}, func(m *evaluationv2.EventStreamResponse) string { return rendered(s.t, m) })
}

func (s *service) documents(p protocol, selector string) *messages {
	return read(s.t, func(ctx context.Context) (*connect.ServerStreamForClient[syncv1.SyncFlagsResponse], error) {
		r := connect.NewRequest(&syncv1.SyncFlagsRequest{})
		r.Header().Set("Flagd-Selector", selector)
		return s.syncClient(p).SyncFlags(ctx, r)
	}, func(m *syncv1.SyncFlagsResponse) string {
		if m.GetSyncContext() == nil {
			s.t.Error("there is no context")
		}
		return m.GetFlagConfiguration()
	})
}

func TestEvents(t *testing.T) {
	const want = `{"data":{"flags":{"added":{"type":"write"},"bool":{"type":"update"},"number":{"type":"delete"},` +
		`"only-targeted":{"type":"update"},"targeted":{"type":"update"}}},"type":"configuration_change"}`
	for name, p := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			s := start(t, document, Options{}, streamOptions)
			events := s.events(p)
			if got := events.next(); got != `{"type":"provider_ready"}` {
				t.Fatalf("the first event is %s", got)
			}
			s.serve(document)
			s.serve(changed)
			if got := events.next(); got != want {
				t.Errorf("the event is %s, not %s", got, want)
			}
			s.streams.Close()
			if code := events.end(); code != "unavailable" {
				t.Errorf("the stream ends with %q, which providers may not notice", code)
			}
		})
	}
}

func TestEventsOfVersion1(t *testing.T) {
	settings := streamOptions
	settings.Heartbeat = 10 * time.Millisecond
	s := start(t, document, Options{}, settings)
	events := read(t, func(ctx context.Context) (*connect.ServerStreamForClient[evaluationv1.EventStreamResponse], error) {
		return s.v1(grpc(t)).EventStream(ctx, connect.NewRequest(&evaluationv1.EventStreamRequest{}))
	}, func(m *evaluationv1.EventStreamResponse) string { return rendered(t, m) })
	for _, want := range []string{`{"type":"provider_ready"}`, `{"type":"keep_alive"}`, `{"type":"keep_alive"}`} {
		if got := events.next(); got != want {
			t.Errorf("the event is %s, not %s", got, want)
		}
	}
}

// TestStreamsWaitForFlags: a client is not told that there are flags before there are.
func TestStreamsWaitForFlags(t *testing.T) {
	s := start(t, "", Options{}, streamOptions)
	p := grpc(t)
	if _, err := s.syncClient(p).FetchAllFlags(t.Context(), connect.NewRequest(&syncv1.FetchAllFlagsRequest{})); codeOf(err) != "unavailable" {
		t.Errorf("without flags the document is answered with %v", err)
	}
	events, documents := s.events(p), s.documents(p, "")
	s.serve(document)
	if got := events.next(); got != `{"type":"provider_ready"}` {
		t.Errorf("the first event is %s", got)
	}
	if got := documents.next(); !strings.Contains(got, `"bool"`) {
		t.Errorf("the first document is %s", got)
	}
}

// servedBy returns the answers of a set by key, and fails for a set that rejects a flag.
func servedBy(t *testing.T, text string) map[string]string {
	t.Helper()
	set, problems, err := flags.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !p.Served {
			t.Errorf("the document has a problem: %s", p)
		}
	}
	answers := map[string]string{}
	for _, body := range []string{`{"context":{}}`, `{"context":{"email":"x@corp.com"}}`} {
		for _, flag := range set.Flags() {
			c := flags.NewContext()
			if err := c.Read(body, flag.Attributes()); err != nil {
				t.Fatal(err)
			}
			o, _ := flag.Evaluate(c, 0)
			answers[flag.Key+body] = fmt.Sprint(o.Reason, o.Variant, string(o.Value), string(o.Metadata), o.ErrorCode)
			c.Release()
		}
	}
	return answers
}

// TestDocumentsAreWhatIsServed evaluates a document like a provider that got it.
func TestDocumentsAreWhatIsServed(t *testing.T) {
	valid := strings.Replace(document, `,
	"invalid":{"state":"ENABLED"}`, "", 1)
	for name, p := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			s := start(t, document, Options{}, streamOptions)
			fetched, err := s.syncClient(p).FetchAllFlags(t.Context(), connect.NewRequest(&syncv1.FetchAllFlagsRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			documents := s.documents(p, "")
			first := documents.next()
			if first != fetched.Msg.GetFlagConfiguration() {
				t.Errorf("the streamed document differs: %s", first)
			}
			if diff := cmp.Diff(servedBy(t, valid), servedBy(t, first)); diff != "" {
				t.Error(diff)
			}
			s.serve(strings.Replace(document, `"flags":{`, `"flags": {`, 1))
			s.serve(changed)
			if got := documents.next(); !strings.Contains(got, `"added"`) || strings.Contains(got, `"number"`) {
				t.Errorf("the next document is %s", got)
			}
		})
	}
}

// TestDeprecatedParts: what providers still send and ask for.
func TestDeprecatedParts(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	if _, _, got := post(t, s.sync+syncService+"GetMetadata", "{}"); got != `{"metadata":{}}` {
		t.Errorf("the metadata is %s", got)
	}
	if _, _, got := post(t, s.sync+syncService+"FetchAllFlags", `{"providerId":"p","selector":"flagSetId=x"}`); !strings.HasPrefix(got, `{"flagConfiguration":"{\"flags\":{},`) {
		t.Errorf("the document of a selector in the body is %s", got)
	}
	var r selectRequest
	wire := appendTextField(appendTextField(nil, 1, "p"), selectorField, "flagSetId=x")
	if err := r.unmarshalProto(wire); err != nil || r.selector != "flagSetId=x" {
		t.Errorf("the selector is %q, %v", r.selector, err)
	}
}

func TestDocumentsBySelector(t *testing.T) {
	s := start(t, document, Options{}, streamOptions)
	p := grpc(t)
	tests := map[string]struct {
		selector string
		keys     int
	}{
		"none": {"", 11}, "a set": {"flagSetId=shop", 1}, "flags without a set": {"flagSetId=", 10},
		"another set": {"flagSetId=x", 0}, "the source": {"default", 11}, "another source": {"source=x", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got struct{ Flags map[string]json.RawMessage }
			if err := json.Unmarshal([]byte(s.documents(p, test.selector).next()), &got); err != nil {
				t.Fatal(err)
			}
			if len(got.Flags) != test.keys {
				t.Errorf("there are %d flags, not %d", len(got.Flags), test.keys)
			}
		})
	}
	if code := s.documents(p, "team=x").end(); code != "invalid_argument" {
		t.Errorf("an unknown selector is answered with %q", code)
	}
}

func TestTokens(t *testing.T) {
	keys, _ := tokens(t, func() *rate.Limiter { return rate.NewLimiter(0.001, 2) })
	s := start(t, document, Options{Keys: keys}, streamOptions)
	tests := []struct{ name, header, value, code string }{
		{"no token", "X-Other", "", "unauthenticated"},
		{"an unknown token", "Authorization", "Bearer other", "unauthenticated"},
		{"a token for OFREP's event streams", "Authorization", "Bearer " + keys.Find(token).StreamToken, "permission_denied"},
		{"a bearer token", "Authorization", "Bearer " + token, ""},
		{"an API key", "X-Api-Key", token, ""},
		{"a token beyond its rate", "X-Api-Key", token, "resource_exhausted"},
	}
	for name, p := range map[string]protocol{"gRPC": grpc(t), "Connect": {h1(t), nil}} {
		t.Run(name, func(t *testing.T) {
			if name != "gRPC" {
				tests = tests[:3]
			}
			for _, test := range tests {
				r := connect.NewRequest(&evaluationv1.ResolveBooleanRequest{FlagKey: "bool"})
				r.Header().Set(test.header, test.value)
				if _, err := s.v1(p).ResolveBoolean(t.Context(), r); codeOf(err) != test.code {
					t.Errorf("%s: the code is %q, not %q", test.name, codeOf(err), test.code)
				}
			}
			if code := s.events(p).end(); code != "unauthenticated" {
				t.Errorf("a stream without a token ends with %q", code)
			}
			if code := s.documents(p, "").end(); code != "unauthenticated" {
				t.Errorf("documents without a token end with %q", code)
			}
		})
	}
}

func TestRevokedTokenEndsStreams(t *testing.T) {
	keys, dir := tokens(t, noLimit)
	watched, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); keys.Run(watched) }()
	defer func() { stop(); <-ended }()
	s := start(t, document, Options{Keys: keys}, streamOptions)
	events := s.events(grpc(t), "Authorization", "Bearer "+token)
	events.next()
	if err := os.WriteFile(filepath.Join(dir, "app"), []byte("another-token-0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-events.ended:
		if codeOf(err) != "unauthenticated" {
			t.Errorf("the stream ended with %v", err)
		}
	case <-time.After(2 * timeout):
		t.Error("the stream continues")
	}
}

func TestStreamsAreDisabled(t *testing.T) {
	s := start(t, document, Options{}, ofrep.StreamOptions{})
	if code := s.events(grpc(t)).end(); code != "unimplemented" {
		t.Errorf("an event stream ends with %q", code)
	}
	if got := s.resolveV2(grpc(t), "Boolean", "bool", nil); !strings.Contains(got, "STATIC") {
		t.Errorf("a flag is answered with %s", got)
	}
}

// TestEndOfClients: a client that cancels its stream frees it.
func TestEndOfClients(t *testing.T) {
	settings := streamOptions
	settings.Max = 1
	s := start(t, document, Options{}, settings)
	p := grpc(t)
	first := s.events(p)
	first.next()
	if code := s.documents(p, "").end(); code != "resource_exhausted" {
		t.Errorf("a stream beyond the limit ends with %q", code)
	}
	first.cancel()
	redistest.Eventually(t, timeout, "the stream is not freed", func() bool {
		if !s.streams.Acquire() {
			return false
		}
		s.streams.Release()
		return true
	})
}
