// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

const timeout = 10 * time.Second

// evaluateWith evaluates the flag with headers, given as names and values.
func (p *process) evaluateWith(headers ...string) *http.Response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "POST", p.ofrep+"/ofrep/v1/evaluate/flags/flag", strings.NewReader(`{"context":{}}`))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response
}

// writeFile replaces a file atomically, like a mount.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestFileChangeIsNotifiedToClients reads the event stream like a provider, until
// the service ends it.
func TestFileChangeIsNotifiedToClients(t *testing.T) {
	file := flagsFile(t, validFlags)
	p := launch(t, "FLAGS_FILE="+file, "EVENT_STREAMS_SPREAD=0s", "EVENT_STREAMS_HEARTBEAT=1s")
	p.awaitReady(true)
	p.client.Timeout = 0
	response, err := p.client.Get(p.ofrep + "/ofrep/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	read := func(prefix string) bool {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), prefix) {
				return true
			}
		}
		return false
	}
	if !read(`data: {"type":"refetchEvaluation"`) {
		t.Fatal("the initial set was not notified")
	}
	writeFile(t, file, strings.Replace(validFlags, `"v":1`, `"v":2`, 1))
	if !read(`data: {"type":"refetchEvaluation"`) {
		t.Fatal("a change was not notified")
	}
	if _, body := p.evaluate(); !strings.Contains(body, `"value":2`) {
		t.Errorf("after the notification the answer is %s", body)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = read("no such line")
	}()
	if code := p.terminate(); code != 0 {
		t.Errorf("with a stream open it exits with %d", code)
	}
	select {
	case <-ended:
	case <-time.After(timeout):
		t.Error("the stream did not end")
	}
}

func TestTokensAreReloaded(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "AUTH_TOKENS_DIR="+dir)
	if status, body := p.get("/readyz"); status != 503 || body != "not ready: all requests are denied: no valid token\n" {
		t.Errorf("without a token /readyz answers %d %s", status, body)
	}
	const token = "canary-token-0123456789"
	if response := p.evaluateWith("Authorization", "Bearer "+token); response.StatusCode != 503 {
		t.Errorf("without a token a request is answered with %d", response.StatusCode)
	}
	writeFile(t, filepath.Join(dir, "web"), token)
	p.awaitReady(true)
	if response := p.evaluateWith("Authorization", "Bearer "+token); response.StatusCode != 200 {
		t.Errorf("with a token a request is answered with %d", response.StatusCode)
	}
	if response := p.evaluateWith(); response.StatusCode != 401 {
		t.Errorf("a request without one is answered with %d", response.StatusCode)
	}
	p.terminate()
	if strings.Contains(p.logs.String(), token) {
		t.Error("the log contains the token")
	}
}

// TestStaleFlagsAreReported removes the source. Flags are served with their age,
// and beyond the limit the pod is unready.
func TestStaleFlagsAreReported(t *testing.T) {
	file := flagsFile(t, validFlags)
	p := launch(t, "FLAGS_FILE="+file, "MAX_STALENESS=1s")
	redistest.Eventually(t, timeout, "the flags were not loaded", func() bool {
		status, _ := p.evaluate()
		return status == 200
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the service is ready although its flags are stale", func() bool {
		status, body := p.get("/readyz")
		return status == 503 && strings.Contains(body, "the limit is 1s")
	})
	age, err := strconv.Atoi(p.evaluateWith().Header.Get("FlagCache-Age"))
	if err != nil || age < 1 {
		t.Errorf("the age of stale flags is sent as %d (%v)", age, err)
	}
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("stale flags are answered with %d %s", status, body)
	}
	writeFile(t, file, validFlags)
	redistest.Eventually(t, 20*time.Second, "the service is not ready although its flags are fresh", func() bool {
		status, _ := p.get("/readyz")
		return status == 200
	})
}

// TestRetryAfterIsSufficient behaves like OpenFeature's providers on 429:
// it sends nothing for the time in Retry-After.
func TestRetryAfterIsSufficient(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "RATE_LIMIT=1")
	redistest.Eventually(t, timeout, "the service is not ready", func() bool { return p.evaluateWith().StatusCode != 503 })
	var rejected *http.Response
	redistest.Eventually(t, timeout, "no request is rejected", func() bool {
		rejected = p.evaluateWith("Origin", "https://shop.example")
		return rejected.StatusCode == 429
	})
	if !strings.Contains(rejected.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Errorf("Retry-After is not exposed to browsers: %v", rejected.Header)
	}
	wait, err := strconv.Atoi(rejected.Header.Get("Retry-After"))
	if err != nil || wait < 1 {
		t.Fatalf("Retry-After is %q seconds", rejected.Header.Get("Retry-After"))
	}
	<-time.After(time.Duration(wait) * time.Second)
	if response := p.evaluateWith(); response.StatusCode != 200 {
		t.Errorf("after the wait a request is answered with %d", response.StatusCode)
	}
	if status, _ := p.get("/livez"); status != 200 {
		t.Errorf("/livez answers %d", status)
	}
}

// TestSlowClientsDoNotBlockOthers opens more slow connections than the limit;
// they must time out.
func TestSlowClientsDoNotBlockOthers(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "MAX_CONNECTIONS=20")
	p.awaitReady(true)
	p.client.Timeout = 30 * time.Second
	var slow sync.WaitGroup
	defer slow.Wait()
	for range 30 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.ofrep, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		slow.Go(func() {
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a slow client does not time out: %v", err)
			}
		})
	}
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("behind slow clients a request is answered with %d %s", status, body)
	}
}

// TestIdleConnectionsAreClosedForOthers opens as many idle connections as the limit.
func TestIdleConnectionsAreClosedForOthers(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "MAX_CONNECTIONS=5")
	p.awaitReady(true)
	for range 5 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.ofrep, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(conn).ReadString('}'); err != nil {
			t.Fatal(err)
		}
	}
	p.client.Timeout = 30 * time.Second
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("behind idle clients a request is answered with %d %s", status, body)
	}
}

// TestUnreadLogDoesNotBlockRequests fills the log's pipe: every failed
// evaluation logs a line at the debug level.
func TestUnreadLogDoesNotBlockRequests(t *testing.T) {
	reading, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reading.Close() }()
	failing := `{"flags":{"flag":{"state":"ENABLED","variants":{"v":1},"targeting":{"+":[null]}}}}`
	command := exec.Command(binary)
	command.Env = []string{"LISTEN_ADDRESS=127.0.0.1:0", "TELEMETRY_ADDRESS=127.0.0.1:0", "DRAIN_DELAY=0s", "LOG_LEVEL=debug", "FLAGS_FILE=" + flagsFile(t, failing)}
	command.Stdout = writing
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = command.Process.Kill() }()
	_ = writing.Close()
	first, err := bufio.NewReaderSize(reading, 16).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ OFREP, Telemetry string }
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatalf("the first line is %q: %v", first, err)
	}
	p := &process{t: t, command: command, ofrep: "http://" + line.OFREP, telemetry: "http://" + line.Telemetry,
		client: &http.Client{Transport: &http.Transport{}, Timeout: timeout}}
	defer p.client.CloseIdleConnections()
	p.awaitReady(true)
	for range 3000 {
		if status, body := p.evaluate(); status != 400 || !strings.Contains(body, "PARSE_ERROR") {
			t.Fatalf("it answers %d %s", status, body)
		}
	}
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, "\nlog_lines_dropped_total ") || strings.Contains(metrics, "\nlog_lines_dropped_total 0\n") {
		t.Error("no log line is counted as dropped")
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
}

func TestProfilesAndTraces(t *testing.T) {
	var mu sync.Mutex
	var traces bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&traces, r.Body)
	}))
	defer collector.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "PPROF_ADDRESS="+address,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_COMPRESSION=none", "OTEL_SERVICE_NAME=shop-flags")
	p.awaitReady(true)
	response, err := p.client.Get("http://" + address + "/debug/pprof/heap")
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("reading the profile: %v %v", response, err)
	}
	_ = response.Body.Close()
	if status, _ := p.get("/debug/pprof/heap"); status != 404 {
		t.Errorf("profiles are also served at the telemetry address: %d", status)
	}
	p.evaluateWith("Authorization", "Bearer canary-token")
	if code := p.terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	for _, want := range []string{"POST /ofrep/v1/evaluate/flags/{key}", "shop-flags"} {
		if !strings.Contains(traces.String(), want) {
			t.Errorf("the traces do not contain %q", want)
		}
	}
	if strings.Contains(traces.String(), "canary-token") {
		t.Error("the traces contain a token")
	}
}

// TestCORSHeaders sends requests from allowed and other origins.
func TestCORSHeaders(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "CORS_ALLOWED_ORIGINS=https://shop.example, http://localhost:3000")
	p.awaitReady(true)
	for origin, allowed := range map[string]string{"https://shop.example": "https://shop.example", "http://localhost:3000": "http://localhost:3000", "https://evil.example": ""} {
		response := p.evaluateWith("Origin", origin)
		if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != 200 || got != allowed {
			t.Errorf("%s is answered with %d and allowed %q", origin, response.StatusCode, got)
		}
	}
	if _, err := readSettings([]string{"CORS_ALLOWED_ORIGINS=https://shop.example/path"}); err == nil {
		t.Error("an origin with a path is accepted")
	}
	if s, err := readSettings([]string{"CORS_ALLOWED_ORIGINS=none"}); err != nil || len(s.http.origins) != 0 {
		t.Errorf("none is read as %v (%v)", s.http.origins, err)
	}
	if _, err := readSettings([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}); err == nil || !strings.Contains(fmt.Sprint(err), "http/protobuf") {
		t.Errorf("an unsupported protocol returns %v", err)
	}
}

// TestRequestsThatCannotBeReadAreAnsweredInJSON sends requests that no handler
// sees.
func TestRequestsThatCannotBeReadAreAnsweredInJSON(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags))
	p.awaitReady(true)
	for _, address := range []string{p.ofrep, p.telemetry} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "POST /ofrep/v1/evaluate/flags/%zz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		want := `{"errorCode":"GENERAL","errorDetails":"the request is not valid HTTP, or its path has an invalid escape: a percent sign must be encoded as %25"}`
		if response.StatusCode != http.StatusBadRequest || string(body) != want || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the answer is %d %s with %v", response.StatusCode, body, response.Header)
		}
	}
}
