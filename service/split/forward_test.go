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

	"github.com/google/go-cmp/cmp"
)

// fault is a way for a candidate to fail; next is a candidate that does not.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// says answers with a status, headers and a body.
func says(status int, body string, headers ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// writes puts bytes on the connection and then closes it.
func writes(text string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(connection, text)
		_ = connection.Close()
	}
}

func resets(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = connection.(*net.TCPConn).SetLinger(0)
	_ = connection.Close()
}

// hangs begins an answer, or not, and never ends it.
func hangs(begun string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		// Only with the body read does the server notice that the client is gone.
		_, _ = io.Copy(io.Discard, r.Body)
		if begun != "" {
			_, _ = io.WriteString(w, begun)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}
}

const jsonType = "application/json"

// TestClientsNeverSeeAFailure has a candidate fail in every way. All traffic is
// its share, and each client gets the stable pod's answer.
func TestClientsNeverSeeAFailure(t *testing.T) {
	tests := map[string]struct {
		fault fault
		want  string
	}{
		"says 500":                   {says(500, `{"errorDetails":"boom"}`, "Content-Type", jsonType), "error"},
		"says 503":                   {says(503, `{}`, "Content-Type", jsonType, "Connection", "close"), "error"},
		"has too many requests":      {says(429, `{}`, "Content-Type", jsonType, "Retry-After", "1000"), "error"},
		"refuses good credentials":   {says(401, `{}`, "Content-Type", jsonType), "error"},
		"redirects":                  {says(302, "", "Location", "http://127.0.0.1:1/"), "error"},
		"says 200 with a web page":   {says(200, "<html>", "Content-Type", "text/html"), "error"},
		"says 200 with half of JSON": {says(200, `{"key":"by`, "Content-Type", jsonType), "error"},
		"says 200 with nothing":      {says(200, "", "Content-Type", jsonType), "error"},
		"says 204":                   {says(204, ""), "error"},
		"says 304 unasked":           {says(304, ""), "error"},
		"is another revision":        {says(200, `{}`, "Content-Type", jsonType, "FlagCache-Revision", "c3c3"), "error"},
		"says too much":              {says(200, `"`+strings.Repeat("x", maxAnswer)+`"`, "Content-Type", jsonType), "error"},
		"has a huge header":          {says(200, `{}`, "Content-Type", jsonType, "X", strings.Repeat("x", maxHeaderBytes)), "error"},
		"speaks no HTTP":             {writes("220 mail.example ESMTP\r\n"), "error"},
		"ends without an answer":     {writes(""), "truncated"},
		"ends in the headers":        {writes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "truncated"},
		"ends in the body":           {writes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}"), "truncated"},
		"ends in a chunk":            {writes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), "truncated"},
		"resets the connection":      {resets, "truncated"},
		"hangs":                      {hangs(""), "timeout"},
		"hangs in the body":          {hangs(`{"key":`), "timeout"},
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
			s.hand(100, candidate.URL, timeout)
			const requests = 5
			for i := range requests {
				s.expectLocal(fmt.Sprintf("user-%d", i))
			}
			if diff := cmp.Diff(map[string]int{test.want: requests}, s.outcomes()); diff != "" {
				t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
			}
			if n := s.count("split_request_duration_seconds", candidateRevision); n != requests {
				t.Errorf("the time of %v attempts was taken", n)
			}
			if n := s.count("split_local_total"); n != 0 {
				t.Errorf("%v requests count as kept by choice", n)
			}
		})
	}
}

// expectLocal asks for a flag and expects the stable pod's own answer.
func (s *stable) expectLocal(key string) {
	s.t.Helper()
	s.expectFrom(stableRevision, key)
}

// expectFrom asks for a flag and expects a revision's answer with the right value.
func (s *stable) expectFrom(revision, key string) {
	s.t.Helper()
	got := s.ask(s.server.URL, base+"/by%20key", contextOf(key))
	want := s.ask(s.reference.URL, base+"/by%20key", contextOf(key))
	if got.status != http.StatusOK || got.body != want.body {
		s.t.Errorf("%s is answered with %d %s instead of %s", key, got.status, got.body, want.body)
	}
	if answered := got.header.Get("FlagCache-Revision"); answered != revision {
		s.t.Errorf("%s is answered by %s", key, answered)
	}
}

func TestACandidateThatIsNotThere(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, http.NotFoundHandler())
	candidate.Close()
	s.hand(100, candidate.URL, "5s")
	for range 5 {
		s.expectLocal("u")
	}
	s.hand(100, "http://candidate.invalid:80", "1s")
	for range 2 {
		s.expectLocal("u")
	}
	// A name that does not resolve says nothing about the candidate.
	if diff := cmp.Diff(map[string]int{"refused": 5, "unresolved": 2}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

func TestOneInFiftyFails(t *testing.T) {
	s := newStable(t)
	healthy := newHandler(t, candidateRevision)
	var asked atomic.Int64
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%50 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		healthy.ServeHTTP(w, r)
	}))
	s.hand(100, candidate.URL, "5s")
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

// TestALateAnswerIsAboveItsBucket is what a check of latency counts: a time-out
// of 50 ms took more than 50 ms.
func TestALateAnswerIsAboveItsBucket(t *testing.T) {
	s := newStable(t)
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hangs("")(w, r, nil) }))
	s.hand(100, candidate.URL, "50ms")
	s.expectLocal("u")
	for _, bucket := range s.metric("split_request_duration_seconds", candidateRevision).GetHistogram().GetBucket() {
		if bucket.GetUpperBound() <= 0.05 && bucket.GetCumulativeCount() > 0 {
			t.Errorf("it took less than %v s", bucket.GetUpperBound())
		}
	}
}

// TestAnswersArePassedOnUntouched compares what a client gets through the stable
// pod with what the candidate says when it is asked directly.
func TestAnswersArePassedOnUntouched(t *testing.T) {
	s := newStable(t)
	healthy := newHandler(t, candidateRevision)
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") == "zstd" {
			says(200, "not for us to understand", "Content-Type", "application/json; charset=utf-8", "Content-Encoding", "zstd", "ETag", `"a--zstd"`,
				"Vary", "Accept-Encoding", "Connection", "X-Hop", "X-Hop", "1", "X-New", "1")(w, r, nil)
			return
		}
		healthy.ServeHTTP(w, r)
	}))
	s.hand(100, candidate.URL, "5s")
	tag := s.ask(candidate.URL, base, contextOf("u")).header.Get("ETag")
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
		"with another encoding": {base, contextOf("u"), []string{"Accept-Encoding", "zstd"}, 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			direct := s.ask(candidate.URL, test.path, test.body, test.headers...)
			split := s.ask(s.server.URL, test.path, test.body, test.headers...)
			for _, header := range []http.Header{direct.header, split.header} {
				header.Del("Date")
				header.Del("X-Hop")
				header.Del("Connection")
			}
			direct.header.Set("FlagCache-Revision", candidateRevision)
			if diff := cmp.Diff(direct, split, cmp.AllowUnexported(reply{})); diff != "" || split.status != test.status {
				t.Errorf("unexpected answer (-direct +split):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(map[string]int{"ok": len(tests)}, s.outcomes()); diff != "" {
		t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
	}
}

// TestRequestsAreHandedOnUntouched looks at the bytes that reach the candidate.
func TestRequestsAreHandedOnUntouched(t *testing.T) {
	s := newStable(t)
	var got string
	candidate := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Del("Content-Length")
		var header strings.Builder
		_ = r.Header.Write(&header)
		got = fmt.Sprintf("%s %s %d\n%s%s", r.Method, r.RequestURI, r.ContentLength, strings.ReplaceAll(header.String(), "\r", ""), body)
		says(200, `{}`, "Content-Type", jsonType)(w, r, nil)
	}))
	s.hand(100, candidate.URL, "5s")

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
		t.Fatalf("the answer is %v, %v", response, err)
	}
	_ = response.Body.Close()

	want := "POST " + base + "/a%2Fb%20c?x=%20y 2\n" +
		"Authorization: Bearer t\nFlagcache-Split: " + candidateRevision + "\nIf-None-Match: \"a\"\n{}"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unexpected request (-want +got):\n%s", diff)
	}
}
