// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/redistest"
)

const (
	events  = "/ofrep/v1/events"
	timeout = 10 * time.Second
)

var streamOptions = StreamOptions{Max: 3, Inactivity: 2 * time.Minute, Heartbeat: time.Hour, WriteTimeout: timeout}

// serveStreams starts a server with event streams.
func serveStreams(t *testing.T, options Options, settings StreamOptions) (*httptest.Server, *Streams) {
	t.Helper()
	core, _ := newTestCore(t, document)
	options.Streams = NewStreams(settings, time.Now)
	server := httptest.NewUnstartedServer(NewHandler(core, options))
	server.Config = NewServer(server.Config.Handler, slog.New(slog.DiscardHandler))
	server.Config.RegisterOnShutdown(options.Streams.Close)
	server.Start()
	t.Cleanup(func() {
		options.Streams.Close()
		server.Close()
	})
	return server, options.Streams
}

// listener is a client of an event stream.
type listener struct {
	t        *testing.T
	response *http.Response
	lines    chan string
}

func listen(t *testing.T, url string, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, response: response, lines: make(chan string, 100)}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(l.lines)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			l.lines <- lines.Text()
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		_ = response.Body.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return l
}

// expect reads lines until one has the prefix, and returns the rest of that
// line.
func (l *listener) expect(prefix string) string {
	l.t.Helper()
	for {
		select {
		case line, ok := <-l.lines:
			if rest, found := strings.CutPrefix(line, prefix); found {
				return rest
			}
			if !ok {
				l.t.Fatalf("the stream ended before %q", prefix)
			}
		case <-time.After(timeout):
			l.t.Fatalf("the stream did not send %q", prefix)
		}
	}
}

func (l *listener) expectEnd() {
	l.t.Helper()
	for {
		select {
		case _, ok := <-l.lines:
			if !ok {
				return
			}
		case <-time.After(timeout):
			l.t.Fatal("the stream does not end")
		}
	}
}

// streamURL returns the URL of the event stream in a bulk response.
func streamURL(t *testing.T, server *httptest.Server, headers ...string) string {
	t.Helper()
	w := request(server.Config.Handler, "POST", base, "", headers...)
	var answer struct {
		EventStreams []struct {
			Type     string
			Endpoint struct{ RequestURI string }
			Delay    int `json:"inactivityDelaySec"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || len(answer.EventStreams) != 1 {
		t.Fatalf("the response has no event streams: %s (%v)", w.Body, err)
	}
	stream := answer.EventStreams[0]
	if stream.Type != "sse" || stream.Delay != 120 || !strings.HasPrefix(stream.Endpoint.RequestURI, "/") {
		t.Errorf("the event stream is %+v", stream)
	}
	return server.URL + stream.Endpoint.RequestURI
}

func TestChangeIsNotifiedOnce(t *testing.T) {
	server, streams := serveStreams(t, Options{Origins: []string{"*"}}, streamOptions)
	l := listen(t, streamURL(t, server), "Origin", shop)
	header := l.response.Header
	if l.response.StatusCode != 200 || header.Get("Content-Type") != "text/event-stream" || header.Get("Cache-Control") != "no-store" ||
		header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("the stream starts with %d %v", l.response.StatusCode, header)
	}
	l.expect("retry: ")
	l.expect(": connected")
	ids := map[string]bool{}
	for range 2 {
		streams.Changed(Position{})
		ids[l.expect("id: ")] = true
		if event := l.expect("event: "); event != "message" {
			t.Errorf("the event's name is %q", event)
		}
		var data struct {
			Type         string
			LastModified int64
		}
		if err := json.Unmarshal([]byte(l.expect("data: ")), &data); err != nil || data.Type != "refetchEvaluation" || data.LastModified == 0 {
			t.Errorf("the event's data is %+v (%v)", data, err)
		}
		select {
		case line := <-l.lines:
			if line != "" {
				t.Errorf("the event is followed by %q", line)
			}
		case <-time.After(timeout):
			t.Error("the event has no end")
		}
	}
	if len(ids) != 2 {
		t.Errorf("two changes have the IDs %v", ids)
	}
}

func TestChangeJustBeforeTheStreamIsNotified(t *testing.T) {
	server, streams := serveStreams(t, Options{}, streamOptions)
	url := streamURL(t, server)
	streams.Changed(Position{})
	listen(t, url).expect(`data: {"type":"refetchEvaluation"`)
}

// An event has what other instances need to answer with flags that are at least as recent.
func TestEventsHaveThePosition(t *testing.T) {
	server, streams := serveStreams(t, Options{}, streamOptions)
	l := listen(t, server.URL+events)
	l.expect(": connected")
	position := at(12, "a")
	streams.Changed(position)
	id := l.expect("id: ")
	var data struct {
		Type, Etag   string
		LastModified int64
	}
	if err := json.Unmarshal([]byte(l.expect("data: ")), &data); err != nil {
		t.Fatal(err)
	}
	if data.Type != "refetchEvaluation" || parseConfigTag(data.Etag) != position.tag() || !strings.HasPrefix(data.Etag, `"`) || data.LastModified != position.Modified.Unix() {
		t.Errorf("the event's data is %+v", data)
	}
	// The same flags again, after others.
	streams.Changed(at(13, "b"))
	streams.Changed(position)
	if again := l.expect("id: "); again == id {
		t.Errorf("two changes have the ID %s", id)
	}
}

// A client that reconnects, to this instance or another one, is notified of what it missed,
// however long ago, and of nothing older than what it knows.
func TestReconnectingClientsAreNotifiedOfWhatTheyMissed(t *testing.T) {
	clock := time.Now()
	streams := NewStreams(streamOptions, func() time.Time { return clock })
	streams.Changed(at(5, "a"))
	latest := streams.current()
	tagged := func(p Position) string { return strings.Trim(p.tag().String(), `"`) + idSeparator + "1700000000-3" }
	another := at(9, "b")
	another.Store = "flagcache:shop/other"
	for name, test := range map[string]struct {
		lastEvent   string
		soon, later bool
	}{
		"a new client":                          {"", true, false},
		"an event of an earlier release":        {"1700000000-3", true, false},
		"an event of older flags":               {tagged(at(4, "b")), true, true},
		"an event of these flags":               {tagged(at(5, "a")), false, false},
		"an event of more recent flags":         {tagged(at(6, "b")), false, false},
		"an event of the same flags, published": {tagged(at(6, "a")), false, false},
		"an event of another store":             {tagged(another), true, false},
		"a huge ID":                             {strings.Repeat("1", 1<<20), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := streams.missed(latest, test.lastEvent); got != test.soon {
				t.Errorf("just after the change: notified is %v", got)
			}
			clock = clock.Add(time.Hour)
			if got := streams.missed(latest, test.lastEvent); got != test.later {
				t.Errorf("an hour after the change: notified is %v", got)
			}
			clock = clock.Add(-time.Hour)
		})
	}
	server, streams := serveStreams(t, Options{}, streamOptions)
	streams.Changed(at(5, "a"))
	known := listen(t, server.URL+events, "Last-Event-ID", tagged(at(5, "a")))
	known.expect(": connected")
	streams.Changed(at(6, "b"))
	if id := known.expect("id: "); !strings.HasPrefix(id, strings.Trim(at(6, "b").tag().String(), `"`)) {
		t.Errorf("the first event has the ID %s", id)
	}
}

func TestIdleStreamsHaveAHeartbeat(t *testing.T) {
	settings := streamOptions
	settings.Heartbeat = 5 * time.Millisecond
	server, _ := serveStreams(t, Options{}, settings)
	l := listen(t, server.URL+events)
	l.expect(": connected")
	for range 3 {
		l.expect(":")
	}
}

// TestStreamsOutliveRequestTimeouts shortens these timeouts; a stream lasts
// many times as long.
func TestStreamsOutliveRequestTimeouts(t *testing.T) {
	core, _ := newTestCore(t, document)
	settings := streamOptions
	settings.Heartbeat = 10 * time.Millisecond
	streams := NewStreams(settings, time.Now)
	server := httptest.NewUnstartedServer(NewHandler(core, Options{Streams: streams}))
	server.Config = NewServer(server.Config.Handler, slog.New(slog.DiscardHandler))
	server.Config.ReadTimeout, server.Config.WriteTimeout = 20*time.Millisecond, 20*time.Millisecond
	server.Start()
	t.Cleanup(func() { streams.Close(); server.Close() })
	l := listen(t, server.URL+events)
	l.expect(": connected")
	for range 20 {
		l.expect(":")
	}
	streams.Changed(Position{})
	l.expect("data: ")
}

func TestConcurrentStreamsAreLimited(t *testing.T) {
	server, streams := serveStreams(t, Options{}, streamOptions)
	registry := prometheus.NewRegistry()
	streams.Register(registry)
	for range streamOptions.Max {
		listen(t, server.URL+events).expect(": connected")
	}
	l := listen(t, server.URL+events)
	if l.response.StatusCode != 429 || l.response.Header.Get("Retry-After") == "" {
		t.Errorf("a stream over the limit is answered with %d %v", l.response.StatusCode, l.response.Header)
	}
	want := "# HELP sse_streams Number of open event streams.\n# TYPE sse_streams gauge\nsse_streams 3\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if w := request(server.Config.Handler, "POST", base+"/static", ""); w.Code != 200 {
		t.Errorf("meanwhile an evaluation is answered with %d", w.Code)
	}
	server.CloseClientConnections()
	redistest.Eventually(t, timeout, "streams of disconnected clients are kept", func() bool { return streams.open.Load() == 0 })
}

// TestStreamOfAClientThatDoesNotReadIsClosed uses an unbuffered connection, and
// another client that must still be notified.
func TestStreamOfAClientThatDoesNotReadIsClosed(t *testing.T) {
	settings := streamOptions
	settings.WriteTimeout = 50 * time.Millisecond
	server, streams := serveStreams(t, Options{}, settings)
	clientEnd, serverEnd := net.Pipe()
	pipes := make(pipeListener, 1)
	pipes <- serverEnd
	go func() { _ = server.Config.Serve(pipes) }()
	t.Cleanup(func() {
		_ = clientEnd.Close()
		_ = server.Config.Close()
	})
	if _, err := io.WriteString(clientEnd, "GET "+events+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	l := listen(t, server.URL+events)
	l.expect(": connected")
	redistest.Eventually(t, timeout, "the client is not dropped", func() bool { return streams.open.Load() == 1 })
	streams.Changed(Position{})
	l.expect("data: ")
}

// pipeListener accepts the connections sent to it.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	conn, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l pipeListener) Close() error { close(l); return nil }

func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestStreamsEndWithTheServer(t *testing.T) {
	server, _ := serveStreams(t, Options{}, streamOptions)
	l := listen(t, server.URL+events)
	l.expect(": connected")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Errorf("the server does not end while a stream is open: %v", err)
	}
	l.expectEnd()
}

func TestStreamsRequireAToken(t *testing.T) {
	server, _ := serveStreams(t, Options{Keys: keys(t, 0, 0)}, streamOptions)
	url := streamURL(t, server, "X-API-Key", webToken)
	if strings.Contains(url, webToken) {
		t.Errorf("the client's own token is in the URL %s", url)
	}
	tests := map[string]struct {
		url     string
		headers []string
		status  int
	}{
		"with the token of the URL":      {url, nil, 200},
		"with a token in a header":       {server.URL + events, []string{"Authorization", "Bearer " + webToken}, 200},
		"without a token":                {server.URL + events, nil, 401},
		"with a wrong token":             {url + "x", nil, 401},
		"with the own token in the URL":  {server.URL + events + "?token=" + webToken, nil, 401},
		"with a wrong token in a header": {url, []string{"Authorization", "Bearer " + webToken + "x"}, 401},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := listen(t, test.url, test.headers...)
			if l.response.StatusCode != test.status {
				t.Errorf("it is answered with %d", l.response.StatusCode)
			}
		})
	}
}

// TestRevokedTokenEndsItsStreams checks streams that were opened with either
// token of a client; those of other clients continue.
func TestRevokedTokenEndsItsStreams(t *testing.T) {
	dir := t.TempDir()
	put := func(name, token string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("web", webToken)
	put("app", appToken)
	keys := access.NewKeys(dir, func() *rate.Limiter { return nil }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { keys.Run(ctx) })
	defer func() { cancel(); running.Wait() }()
	server, streams := serveStreams(t, Options{Keys: keys}, streamOptions)

	byURL := listen(t, streamURL(t, server, "X-API-Key", webToken))
	byHeader := listen(t, server.URL+events, "Authorization", "Bearer "+webToken)
	other := listen(t, server.URL+events, "Authorization", "Bearer "+appToken)
	for _, l := range []*listener{byURL, byHeader, other} {
		l.expect(": connected")
	}
	put("web", "another-token-0123456789")
	byURL.expectEnd()
	byHeader.expectEnd()
	streams.Changed(Position{})
	other.expect("data: ")
	if err := os.Remove(filepath.Join(dir, "app")); err != nil {
		t.Fatal(err)
	}
	other.expectEnd()
}

// TestStreamsArePartOfTheEntityTag checks that a client with a response without
// streams gets a new one.
func TestStreamsArePartOfTheEntityTag(t *testing.T) {
	core, _ := newTestCore(t, document)
	without := request(NewHandler(core, Options{}), "POST", base, "").Header().Get("ETag")
	with := NewHandler(core, Options{Streams: NewStreams(streamOptions, time.Now)})
	w := request(with, "POST", base, "", "If-None-Match", without)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "eventStreams") {
		t.Errorf("it is answered with %d", w.Code)
	}
	if w := request(with, "POST", base, "", "If-None-Match", w.Header().Get("ETag")); w.Code != 304 {
		t.Errorf("with its own tag it is answered with %d", w.Code)
	}
}

func TestNoStreams(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	if w := request(handler, "POST", base, ""); strings.Contains(w.Body.String(), "eventStreams") {
		t.Errorf("the response has event streams: %s", w.Body)
	}
	if w := request(handler, "GET", events, ""); w.Code != 404 {
		t.Errorf("a stream is answered with %d", w.Code)
	}
}

func TestEventsOnlyAllowGET(t *testing.T) {
	server, _ := serveStreams(t, Options{Origins: []string{"*"}}, streamOptions)
	w := request(server.Config.Handler, "POST", events, "")
	if w.Code != 405 || w.Header().Get("Allow") != "GET, OPTIONS" {
		t.Errorf("POST is answered with %d %v", w.Code, w.Header())
	}
	if want := `{"errorDetails":"the method must be GET"}`; w.Body.String() != want {
		t.Errorf("POST is answered with %s, not %s", w.Body, want)
	}
	w = request(server.Config.Handler, "OPTIONS", events, "", "Origin", shop)
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Methods") != "GET" {
		t.Errorf("a preflight is answered with %d %v", w.Code, w.Header())
	}
}
