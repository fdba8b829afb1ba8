// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestRefusalsHaveTheFormOfTheServer sends requests that net/http answers by
// itself, and one whose response looks like such an answer.
func TestRefusalsHaveTheFormOfTheServer(t *testing.T) {
	l := listenOn(t, 0)
	l.Refuse = func(status int) (string, []byte) {
		return "application/json", fmt.Appendf(nil, `{"status":%d}`, status)
	}
	const lookalike = "HTTP/1.1 400 Bad Request" + plainError + "400 Bad Request"
	server := &http.Server{MaxHeaderBytes: 4096, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, lookalike)
	})}
	// After some errors net/http keeps a connection for a while.
	var open sync.WaitGroup
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); open.Wait() })
	tests := map[string]struct {
		request string
		status  int
		want    string
	}{
		"an invalid escape":             {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, `{"status":400}`},
		"not HTTP":                      {"\x16\x03\x01\r\n\r\n", 400, `{"status":400}`},
		"no host":                       {"GET / HTTP/1.1\r\n\r\n", 400, `{"status":400}`},
		"headers that are too large":    {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n", 431, `{"status":431}`},
		"an unknown transfer encoding":  {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: zip\r\n\r\n", 501, `{"status":501}`},
		"another version of HTTP":       {"GET / HTTP/9.1\r\nHost: a\r\n\r\n", 505, `{"status":505}`},
		"a response that looks like it": {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, lookalike},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client := dial(t, l)
			if _, err := io.WriteString(client, test.request); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != test.status || string(body) != test.want {
				t.Errorf("the answer is %d %q (%v)", response.StatusCode, body, err)
			}
			if json := strings.HasPrefix(test.want, "{"); json != (response.Header.Get("Content-Type") == "application/json") {
				t.Errorf("the headers are %v", response.Header)
			}
		})
	}
}
