// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/ofrep"
)

const token = "0123456789abcdef"

// newGuarded returns a real flag service that requires the token, in a server
// with the limits of the real one.
func newGuarded(t *testing.T, revision string, divert func(http.ResponseWriter, *http.Request, []byte) int) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "client"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := access.NewKeys(dir, func() *rate.Limiter { return nil }, slog.New(slog.DiscardHandler))
	handler := newHandlerWith(t, ofrep.Options{Revision: revision, Keys: keys, CompressFrom: 1})
	handler.Divert = divert
	server := httptest.NewUnstartedServer(nil)
	server.Config = ofrep.NewServer(handler, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// TestAdmittedRequestsAreNoEvidence sends what only a client causes: the stable
// pod has admitted it, so the candidate must too, or not be charged for it.
func TestAdmittedRequestsAreNoEvidence(t *testing.T) {
	authorized := "Authorization: Bearer " + token + "\r\n"
	quotes := strings.Repeat(`"`, 11_500)
	tests := map[string]struct {
		path, headers string
		want          map[string]int
	}{
		"a connection option for the credentials": {base + "/static", authorized + "Connection: Authorization\r\n", map[string]int{"ok": 1}},
		"a connection option for the API key":     {base + "/static", "X-API-Key: " + token + "\r\nConnection: close, x-api-key\r\n", map[string]int{"ok": 1}},
		"a connection option for the tag":         {base, authorized + "If-None-Match: \"x\"\r\nConnection: If-None-Match\r\n", map[string]int{"ok": 1}},
		"thousands of headers":                    {base + "/static", authorized + strings.Repeat("a:b\r\n", 6_900), map[string]int{"ok": 1}},
		"thousands of tags":                       {base, authorized + strings.Repeat("If-None-Match:\r\n", 2_150), map[string]int{"ok": 1}},
		"two credentials":                         {base + "/static", authorized + "Authorization: Basic x\r\n", map[string]int{"ok": 1}},
		"a protocol switch":                       {base + "/static", authorized + "Connection: Upgrade\r\nUpgrade: h2c\r\n", map[string]int{"ok": 1}},
		"a continuation":                          {base + "/static", authorized + "Expect: 100-continue\r\n", map[string]int{"ok": 1}},
		"an accepted encoding":                    {base, authorized + "Accept-Encoding: br, gzip;q=0.5\r\n", map[string]int{"ok": 1}},
		"a key that is not UTF-8":                 {base + "/%ff%fe", authorized, map[string]int{"ok": 1}},
		"a key as long as the limit":              {base + "/" + strings.Repeat("x", 36_500), authorized, map[string]int{"oversized": 1}},
		"a key that is longer when escaped":       {base + "/" + quotes, authorized, map[string]int{"oversized": 1}},
		"a header as long as the limit":           {base, authorized + "If-None-Match: " + strings.Repeat("x", 36_500) + "\r\n", map[string]int{"oversized": 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStable(t)
			s.forwardTo(100, newGuarded(t, candidateRevision, nil).URL, "5s")
			with := newGuarded(t, stableRevision, s.splitter.Divert)
			reference := newGuarded(t, stableRevision, nil)
			got, want := s.raw(with, test.path, test.headers), s.raw(reference, test.path, test.headers)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the response differs from that without a split (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, s.outcomes()); diff != "" {
				t.Errorf("unexpected outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// raw sends a request with the given header lines and returns the status and
// the body of the response.
func (s *stable) raw(server *httptest.Server, path, headers string) string {
	s.t.Helper()
	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(30 * time.Second))
	body := contextOf("u")
	_, _ = fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: f\r\n%sContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
	reader := bufio.NewReader(connection)
	for {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		if response.StatusCode != http.StatusContinue {
			return fmt.Sprint(response.StatusCode, " ", string(content))
		}
	}
}

// TestClientsCannotOptOut sends the header of forwarded requests.
func TestClientsCannotOptOut(t *testing.T) {
	id := strings.Repeat("0", 26)
	for _, values := range [][]string{
		{""}, {"x"}, {stableRevision}, {candidateRevision}, {"draining"}, {stableRevision, id},
		append([]string{stableRevision}, strings.Split(strings.Repeat(id+" ", 100), " ")...),
	} {
		s := newStable(t)
		candidate := serve(t, newHandler(t, candidateRevision))
		s.forwardTo(100, candidate.URL, "5s")
		var lines strings.Builder
		for _, value := range values {
			lines.WriteString("FlagCache-Split: " + value + "\r\n")
		}
		s.raw(s.server, base+"/static", lines.String())
		if diff := cmp.Diff(map[string]int{"ok": 1}, s.outcomes()); diff != "" {
			t.Errorf("unexpected outcomes of %q (-want +got):\n%s", values, diff)
		}
	}
}

// TestTwoRevisionsThatConsiderEachOtherTheCandidate end their loop: each pod
// recognizes the requests that it has forwarded.
func TestTwoRevisionsThatConsiderEachOtherTheCandidate(t *testing.T) {
	a, b := newStable(t), newStable(t)
	a.forwardTo(100, b.server.URL, "5s")
	b.splitter.options.Revision = candidateRevision
	b.apply(`{"revision":%q,"address":%q,"weight":100,"timeout":"5s"}`, stableRevision, a.server.URL)
	for range 3 {
		a.expectLocal("u")
	}
	if n := a.count("split_requests_total", candidateRevision, "error"); n != 3 {
		t.Errorf("%v requests were forwarded", n)
	}
}
