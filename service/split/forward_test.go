// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/service/ofrep"
)

// fault is a kind of failure of a candidate; next is a working candidate.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// respond sends a status, headers and a body.
func respond(status int, body string, headers ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// writeRaw writes bytes to the connection and then closes it.
func writeRaw(text string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(connection, text)
		_ = connection.Close()
	}
}

// hold writes bytes to the connection and keeps it open until the other side
// closes it.
func hold(text string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(connection, text)
		_, _ = io.Copy(io.Discard, connection)
		_ = connection.Close()
	}
}

// drip writes a text to the connection again and again, slowly, until the other
// side closes it.
func drip(begun, text string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer func() { _ = connection.Close() }()
		_, err = io.WriteString(connection, begun)
		for tick := time.NewTicker(5 * time.Millisecond); err == nil; <-tick.C {
			_, err = io.WriteString(connection, text)
		}
	}
}

func reset(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = connection.(*net.TCPConn).SetLinger(0)
	_ = connection.Close()
}

// hang may begin a response and never ends it.
func hang(begun string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		// The server only detects a disconnected client after the body was read.
		_, _ = io.Copy(io.Discard, r.Body)
		if begun != "" {
			_, _ = io.WriteString(w, begun)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}
}

const jsonType = "application/json"

// TestClientsNeverSeeCandidateFailures has a candidate fail in every way. All requests
// are in its share, and each client gets the stable pod's response.
func TestClientsNeverSeeCandidateFailures(t *testing.T) {
	tests := map[string]struct {
		fault fault
		want  string
	}{
		"responds with 500":                             {respond(500, `{"errorDetails":"boom"}`, "Content-Type", jsonType), "error"},
		"responds with 503":                             {respond(503, `{}`, "Content-Type", jsonType, "Connection", "close"), "error"},
		"has too many requests":                         {respond(429, `{}`, "Content-Type", jsonType, "Retry-After", "1000"), "error"},
		"rejects valid credentials":                     {respond(401, `{}`, "Content-Type", jsonType), "error"},
		"redirects":                                     {respond(302, "", "Location", "http://127.0.0.1:1/"), "error"},
		"responds with a web page":                      {respond(200, "<html>", "Content-Type", "text/html"), "error"},
		"responds with truncated JSON":                  {respond(200, `{"key":"by`, "Content-Type", jsonType), "error"},
		"responds without a body":                       {respond(200, "", "Content-Type", jsonType), "error"},
		"responds with 204":                             {respond(204, ""), "error"},
		"responds with 304 to an unconditional request": {respond(304, ""), "error"},
		"is another revision":                           {respond(200, `{}`, "Content-Type", jsonType, "FlagCache-Revision", "c3c3"), "error"},
		"responds with too large a body":                {respond(200, `"`+strings.Repeat("x", maxResponse)+`"`, "Content-Type", jsonType), "error"},
		"has a huge header":                             {respond(200, `{}`, "Content-Type", jsonType, "X", strings.Repeat("x", maxHeaderBytes)), "error"},
		"does not speak HTTP":                           {writeRaw("220 mail.example ESMTP\r\n"), "error"},
		"closes the connection":                         {writeRaw(""), "truncated"},
		"closes the connection in the headers":          {writeRaw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "truncated"},
		"closes the connection in the body":             {writeRaw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}"), "truncated"},
		"closes the connection in a chunk":              {writeRaw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), "truncated"},
		"resets the connection":                         {reset, "truncated"},
		"hangs":                                         {hang(""), "timeout"},
		"hangs in the body":                             {hang(`{"key":`), "timeout"},
		"hangs in the headers":                          {hold("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "timeout"},
		"hangs after an informational response":         {hold("HTTP/1.1 103 Early Hints\r\n\r\n"), "timeout"},
		"sends its headers slowly":                      {drip("HTTP/1.1 200 OK\r\n", "A: b\r\n"), "timeout"},
		"sends its body slowly":                         {drip("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", " "), "timeout"},
		"switches protocols":                            {hold("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), "error"},
		"switches protocols without a name":             {hold("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "error"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStable(t)
			healthy := newHandler(t, candidateRevision)
			candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { test.fault(w, r, healthy) }))
			timeout := "5s"
			if test.want == "timeout" {
				timeout = "50ms"
			}
			s.forwardTo(100, candidate.URL, timeout)
			const requests = 5
			for i := range requests {
				s.expectLocal(fmt.Sprintf("user-%d", i))
			}
			if diff := cmp.Diff(map[string]int{test.want: requests}, s.outcomes()); diff != "" {
				t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
			}
			if n := s.count("split_request_duration_seconds", candidateRevision); n != requests {
				t.Errorf("the duration of %v attempts was observed", n)
			}
			if n := s.count("split_local_total"); n != 0 {
				t.Errorf("%v requests are counted as local", n)
			}
		})
	}
}

// expectLocal evaluates a flag and expects the stable pod's own response.
func (s *stable) expectLocal(key string) {
	s.t.Helper()
	s.expectFrom(stableRevision, key)
}

// expectFrom evaluates a flag and expects a revision's response with the right
// value.
func (s *stable) expectFrom(revision, key string) {
	s.t.Helper()
	got := s.post(s.server.URL, base+"/by%20key", contextOf(key))
	want := s.post(s.reference.URL, base+"/by%20key", contextOf(key))
	if got.status != http.StatusOK || got.body != want.body {
		s.t.Errorf("%s is answered with %d %s instead of %s", key, got.status, got.body, want.body)
	}
	if answered := got.header.Get("FlagCache-Revision"); answered != revision {
		s.t.Errorf("%s is answered by %s", key, answered)
	}
}

func TestUnreachableCandidate(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, http.NotFoundHandler())
	candidate.Close()
	s.forwardTo(100, candidate.URL, "5s")
	for range 5 {
		s.expectLocal("u")
	}
	s.forwardTo(100, "http://candidate.invalid:80", "1s")
	for range 2 {
		s.expectLocal("u")
	}
	// A failed DNS lookup is not a failure of the candidate.
	if diff := cmp.Diff(map[string]int{"refused": 5, "unresolved": 2}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestProtocolSwitchesHoldNoSlots sends more requests than may be in flight to a
// candidate that switches protocols and keeps the connections.
func TestProtocolSwitchesHoldNoSlots(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, http.HandlerFunc(hold("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").ServeHTTP))
	s.forwardTo(100, candidate.URL, "5s")
	for range cutOffAfter - 1 {
		s.expectLocal("u")
	}
	if n := len(s.splitter.inFlight); n != 0 {
		t.Errorf("%d slots are taken", n)
	}
}

func TestOccasionalFailures(t *testing.T) {
	s := newStable(t)
	healthy := newHandler(t, candidateRevision)
	var requests atomic.Int64
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%50 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		healthy.ServeHTTP(w, r)
	}))
	s.forwardTo(100, candidate.URL, "5s")
	for i := range 500 {
		revision := candidateRevision
		if (i+1)%50 == 0 {
			revision = stableRevision
		}
		s.expectFrom(revision, fmt.Sprintf("user-%d", i))
	}
	if diff := cmp.Diff(map[string]int{"ok": 490, "error": 10}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestTimeoutIsCountedAboveItsBucket matters for a latency check: a timeout of 50
// ms must count as more than 50 ms.
func TestTimeoutIsCountedAboveItsBucket(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hang("")(w, r, nil) }))
	s.forwardTo(100, candidate.URL, "50ms")
	s.expectLocal("u")
	for _, bucket := range s.metric("split_request_duration_seconds", candidateRevision).GetHistogram().GetBucket() {
		if bucket.GetUpperBound() <= 0.05 && bucket.GetCumulativeCount() > 0 {
			t.Errorf("it is counted as less than %v s", bucket.GetUpperBound())
		}
	}
}

// TestResponsesAreForwardedUnchanged compares the response through the stable pod
// with the candidate's direct response.
func TestResponsesAreForwardedUnchanged(t *testing.T) {
	s := newStable(t)
	healthy := newHandlerWith(t, ofrep.Options{Revision: candidateRevision, CompressFrom: 1})
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-New", "1")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Connection", "X-Hop, Content-Type")
		healthy.ServeHTTP(w, r)
	}))
	s.forwardTo(100, candidate.URL, "5s")
	tag := s.post(candidate.URL, base, contextOf("u")).header.Get("ETag")
	tests := map[string]struct {
		path, body string
		headers    []string
		status     int
	}{
		"a single flag":         {base + "/static", contextOf("u"), nil, 200},
		"a key with a slash":    {base + "/with%2Fslash%20and%20%25", contextOf("u"), nil, 200},
		"all flags":             {base, contextOf("u"), nil, 200},
		"all flags, unchanged":  {base, contextOf("u"), []string{"If-None-Match", tag}, 304},
		"all flags, changed":    {base, contextOf("u"), []string{"If-None-Match", `"x"`}, 200},
		"a query":               {base + "?flagConfigEtag=x", contextOf("u"), nil, 200},
		"an unknown flag":       {base + "/nobody", contextOf("u"), nil, 404},
		"a malformed body":      {base + "/static", `{`, nil, 400},
		"a malformed context":   {base + "/static", `{"context":1}`, nil, 400},
		"from a browser":        {base + "/static", contextOf("u"), []string{"Origin", "https://shop.example"}, 200},
		"compressed":            {base, contextOf("u"), []string{"Accept-Encoding", "gzip"}, 200},
		"with another encoding": {base, contextOf("u"), []string{"Accept-Encoding", "zstd"}, 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			direct := s.post(candidate.URL, test.path, test.body, test.headers...)
			split := s.post(s.server.URL, test.path, test.body, test.headers...)
			for _, header := range []http.Header{direct.header, split.header} {
				header.Del("Date")
				header.Del("X-Hop")
				header.Del("Connection")
			}
			direct.header.Set("FlagCache-Revision", candidateRevision)
			if diff := cmp.Diff(direct, split, cmp.AllowUnexported(reply{})); diff != "" || split.status != test.status {
				t.Errorf("unexpected response (-direct +split):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(map[string]int{"ok": len(tests)}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestRequestsAreForwardedUnchanged checks the bytes that reach the candidate.
func TestRequestsAreForwardedUnchanged(t *testing.T) {
	s := newStable(t)
	var got string
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Del("Content-Length")
		var header strings.Builder
		_ = r.Header.Write(&header)
		got = fmt.Sprintf("%s %s %d\n%s%s", r.Method, r.RequestURI, r.ContentLength, strings.ReplaceAll(header.String(), "\r", ""), body)
		respond(200, `{"key":"a/b c","reason":"STATIC"}`, "Content-Type", jsonType)(w, r, nil)
	}))
	s.forwardTo(100, candidate.URL, "5s")

	connection, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_, _ = io.WriteString(connection, "POST "+base+"/a%2Fb%20c?x=%20y HTTP/1.1\r\nHost: flags.example\r\nAuthorization: Bearer t\r\n"+
		"If-None-Match: \"a\"\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nTe: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"2\r\n{}\r\n0\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the response is %v, %v", response, err)
	}
	_ = response.Body.Close()

	want := "POST " + base + "/a%2Fb%20c?x=%20y 2\n" +
		"Authorization: Bearer t\nFlagcache-Split: " + candidateRevision + "\nFlagcache-Split: " + s.splitter.hops.own + "\nIf-None-Match: \"a\"\n{}"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unexpected request (-want +got):\n%s", diff)
	}
}
