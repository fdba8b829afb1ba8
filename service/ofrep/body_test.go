// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/flagcache/flagcache/service/redistest"
)

// serveWith starts a real server with limits changed by change.
func serveWith(t *testing.T, change func(*http.Server)) (*httptest.Server, *Handler) {
	t.Helper()
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	server := httptest.NewUnstartedServer(handler)
	server.Config = NewServer(handler, slog.New(slog.DiscardHandler))
	change(server.Config)
	server.Start()
	t.Cleanup(server.Close)
	return server, handler
}

func unchanged(*http.Server) {}

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// responseOf reads one response from a raw connection.
func responseOf(t *testing.T, conn net.Conn) (status int, body string) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("the response is truncated: %v", err)
	}
	return response.StatusCode, string(read)
}

func post(path, headers, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body
}

// TestSlowClientsTimeOut shortens the timeouts and checks that they are
// enforced.
func TestSlowClientsTimeOut(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"headers that never end":    {"POST " + base + " HTTP/1.1\r\nHost: x\r\nX-A: ", ""},
		"a body that is never sent": {post(base+"/static", "Content-Length: 10\r\n", "{"), "HTTP/1.1 408 "},
		"chunks that never end":     {post(base+"/static", "Transfer-Encoding: chunked\r\n", "1\r\n{\r\n"), "HTTP/1.1 408 "},
		"an idle connection":        {"", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server, _ := serveWith(t, func(s *http.Server) {
				s.ReadHeaderTimeout, s.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond
			})
			conn := dial(t, server)
			send(t, conn, test.text)
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(answer), test.want) {
				t.Errorf("the answer is %q (%v)", answer, err)
			}
			if w := request(server.Config.Handler, "POST", base+"/static", ""); w.Code != 200 {
				t.Errorf("other requests are answered with %d", w.Code)
			}
		})
	}
}

// TestByteByByteClientsTimeOut has clients send headers and bodies byte by byte,
// which would defeat a timeout for idle connections.
func TestByteByByteClientsTimeOut(t *testing.T) {
	server, _ := serveWith(t, func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	for _, start := range []string{"POST " + base + " HTTP/1.1\r\nHost: x\r\nX-A: ", post(base, "Content-Length: 100000\r\n", "")} {
		conn := dial(t, server)
		send(t, conn, start)
		dripping := time.NewTicker(5 * time.Millisecond)
		defer dripping.Stop()
		redistest.Eventually(t, timeout, "the client is not disconnected", func() bool {
			<-dripping.C
			_, err := io.WriteString(conn, "x")
			return err != nil
		})
	}
}

// TestClientsThatDoNotReadResponsesTimeOut pipelines requests without
// reading responses, until the server cannot write any more.
func TestClientsThatDoNotReadResponsesTimeOut(t *testing.T) {
	server, _ := serveWith(t, func(s *http.Server) { s.WriteTimeout = 200 * time.Millisecond })
	conn := dial(t, server)
	batch := strings.Repeat(post(base, "Content-Length: 2\r\n", "{}"), 100)
	redistest.Eventually(t, 30*time.Second, "the client is not disconnected", func() bool {
		_, err := io.WriteString(conn, batch)
		return err != nil
	})
}

func TestMalformedBodies(t *testing.T) {
	large := strings.Repeat("x", MaxBody+1)
	tests := map[string]struct {
		headers, body string
		status        int
	}{
		"one byte over the limit":      {fmt.Sprintf("Content-Length: %d\r\n", MaxBody+1), large, 413},
		"a Content-Length of 10 GiB":   {"Content-Length: 10737418240\r\n", "", 413},
		"chunks over the limit":        {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s", len(large), large), 413},
		"less than the Content-Length": {"Content-Length: 10\r\n", "{}", 400},
		"a negative length":            {"Content-Length: -1\r\n", "", 400},
		"two lengths":                  {"Content-Length: 2\r\nContent-Length: 3\r\n", "{} ", 400},
		"length and chunks":            {"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n", 200},
		"invalid chunks":               {"Transfer-Encoding: chunked\r\n", "zz\r\n", 400},
		"a compressed body":            {"Content-Encoding: gzip\r\nContent-Length: 2\r\n", "\x1f\x8b", 415},
		"an identity encoding":         {"Content-Encoding: identity\r\nContent-Length: 2\r\n", "{}", 200},
		"an expectation":               {"Expect: 100-continue\r\nContent-Length: 300000\r\n", "", 413},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server, _ := serveWith(t, unchanged)
			conn := dial(t, server)
			go func() {
				// The server may close the connection before all is sent.
				_, _ = io.WriteString(conn, post(base+"/static", test.headers, test.body))
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			status, body := responseOf(t, conn)
			if status != test.status {
				t.Errorf("it is answered with %d %s", status, body)
			}
		})
	}
}

// TestEndlessBodiesAreNotBuffered sends 64 MiB on each of 8 connections.
func TestEndlessBodiesAreNotBuffered(t *testing.T) {
	server, _ := serveWith(t, unchanged)
	before := heap()
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("x", 64<<10))
	var sending sync.WaitGroup
	for range 8 {
		conn := dial(t, server)
		send(t, conn, post(base+"/static", "Transfer-Encoding: chunked\r\n", ""))
		sending.Go(func() {
			for range 1024 {
				if _, err := io.WriteString(conn, chunk); err != nil {
					return
				}
			}
			t.Error("64 MiB were accepted")
		})
	}
	sending.Wait()
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestConcurrentLargeBodiesAreLimited has clients announce large bodies without sending them.
// Further large bodies are rejected, small ones are not.
func TestConcurrentLargeBodiesAreLimited(t *testing.T) {
	server, handler := serveWith(t, unchanged)
	for range maxLargeBodies {
		send(t, dial(t, server), post(base+"/static", fmt.Sprintf("Content-Length: %d\r\n", MaxBody), "{"))
	}
	redistest.Eventually(t, timeout, "the bodies are not being read", func() bool { return len(handler.bodies.large) == maxLargeBodies })
	large := `{"context":{"a":"` + strings.Repeat("x", smallBody) + `"}}`
	if w := request(handler, "POST", base+"/static", large); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("another large body is answered with %d %v", w.Code, w.Header())
	}
	if w := request(handler, "POST", base+"/static", `{"context":{}}`); w.Code != 200 {
		t.Errorf("a small body is answered with %d", w.Code)
	}
	server.CloseClientConnections()
	redistest.Eventually(t, timeout, "the large bodies are still counted", func() bool { return len(handler.bodies.large) == 0 })
	if w := request(handler, "POST", base+"/static", large); w.Code != 200 {
		t.Errorf("a later large body is answered with %d", w.Code)
	}
}

func TestBodiesOfAllSizesAreRead(t *testing.T) {
	core, _ := newTestCore(t, document)
	handler := NewHandler(core, Options{})
	frame := len(`{"context":{"a":"","email":"x@corp.com"}}`)
	for _, size := range []int{0, 1, initialBuffer - frame - 1, initialBuffer - frame, initialBuffer - frame + 1, smallBody - frame, smallBody, MaxBody / 2, MaxBody - frame} {
		body := `{"context":{"a":"` + strings.Repeat("x", size) + `","email":"x@corp.com"}}`
		for _, announced := range []int64{int64(len(body)), -1} {
			r := httptest.NewRequest("POST", base+"/targeted", strings.NewReader(body))
			r.ContentLength = announced
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != 200 || !strings.Contains(w.Body.String(), "TARGETING_MATCH") {
				t.Errorf("%d bytes with a Content-Length of %d are answered with %d %s", len(body), announced, w.Code, w.Body)
			}
		}
	}
	if len(handler.bodies.large) != 0 {
		t.Errorf("%d large bodies are still counted", len(handler.bodies.large))
	}
}

// TestExpensiveBodiesAreRejected sends bodies within the size limit that are expensive or ambiguous
// to parse. They are rejected with the protocol's error.
func TestExpensiveBodiesAreRejected(t *testing.T) {
	deep := MaxBody/2 - 100
	tests := map[string]string{
		"nested arrays":          `{"context":{"a":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + `}}`,
		"nested objects":         `{"context":` + strings.Repeat(`{"a":`, 30_000) + "1" + strings.Repeat("}", 30_001),
		"only brackets":          strings.Repeat("[", MaxBody),
		"a number out of range":  `{"context":{"email":1e999}}`,
		"a NUL in a string":      "{\"context\":{\"email\":\"\x00\"}}",
		"a byte order mark":      "\ufeff{\"context\":{}}",
		"trailing data":          `{"context":{}} {}`,
		"not UTF-8 as structure": "{\xff}",
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			core, _ := newTestCore(t, document)
			handler := NewHandler(core, Options{})
			for _, path := range []string{base, base + "/targeted"} {
				w := request(handler, "POST", path, body)
				var answer struct{ Key, ErrorCode, ErrorDetails string }
				if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
					t.Fatal(err)
				}
				if w.Code != 400 || answer.ErrorCode != "INVALID_CONTEXT" || len(answer.ErrorDetails) > 300 {
					t.Errorf("%s answers %d %s", path, w.Code, w.Body)
				}
			}
		})
	}
	t.Run("very many keys", func(t *testing.T) {
		core, _ := newTestCore(t, document)
		body := `{"context":{` + strings.Repeat(`"k":1,`, 40_000) + `"email":"x@corp.com"}}`
		if w := request(NewHandler(core, Options{}), "POST", base+"/static", body); w.Code >= 500 {
			t.Errorf("it is answered with %d", w.Code)
		}
	})
}

func TestHostileKeys(t *testing.T) {
	core, registry := newTestCore(t, document)
	server := httptest.NewUnstartedServer(NewHandler(core, Options{}))
	server.Config = NewServer(server.Config.Handler, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	tests := map[string]struct {
		path   string
		status int
		key    string
	}{
		"a path upwards":             {base + "/../../../etc/passwd", 404, "../../../etc/passwd"},
		"an encoded path upwards":    {base + "/%2e%2e%2f%2e%2e%2fetc", 404, "../../etc"},
		"a slash at the end":         {base + "/static/", 404, "static/"},
		"two slashes":                {base + "//static", 404, "/static"},
		"encoded twice":              {base + "/with%252Fslash", 404, "with%2Fslash"},
		"a NUL":                      {base + "/a%00b", 404, "a\x00b"},
		"the end of a header":        {base + "/a%0d%0aX-Evil:%20yes", 404, "a\r\nX-Evil: yes"},
		"markup":                     {base + "/%3Cscript%3E", 404, "<script>"},
		"a key that is not UTF-8":    {base + "/%ff%fe", 404, "\ufffd\ufffd"},
		"half an escape":             {base + "/a%2", 400, ""},
		"a key of 1 MiB":             {base + "/" + strings.Repeat("k", 1<<20), 431, ""},
		"a long key":                 {base + "/" + strings.Repeat("k", 8<<10), 404, strings.Repeat("k", 8<<10)},
		"a query":                    {base + "/static?key=other", 200, "static"},
		"a flag of another protocol": {base + "/metrics", 404, "metrics"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, server)
			go func() { _, _ = io.WriteString(conn, post(test.path, "Content-Length: 0\r\n", "")) }()
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, _ := io.ReadAll(response.Body)
			var answer struct{ Key string }
			if test.key != "" {
				if err := json.Unmarshal(body, &answer); err != nil {
					t.Errorf("the answer is not JSON: %s", body)
				}
			}
			if response.StatusCode != test.status || answer.Key != test.key || response.Header.Get("X-Evil") != "" {
				t.Errorf("it is answered with %d %q %v", response.StatusCode, body, response.Header)
			}
		})
	}
	if series, err := testutil.GatherAndCount(registry, "ofrep_requests_total", "flag_evaluations_total"); err != nil || series > 4 {
		t.Errorf("there are %d series (%v)", series, err)
	}
}
