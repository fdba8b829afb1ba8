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

const patient = 10 * time.Second

// ask evaluates the flag with headers, given as names and values.
func (p *process) ask(headers ...string) *http.Response {
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

// writeFlags replaces a file at once, as mounts do.
func writeFlags(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestAChangedFileIsToldToClients listens as a provider does, and stays until the
// service ends.
func TestAChangedFileIsToldToClients(t *testing.T) {
	file := flagsFile(t, goodFlags)
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
		t.Fatal("the set that has just been loaded is not told")
	}
	writeFlags(t, file, strings.Replace(goodFlags, `"v":1`, `"v":2`, 1))
	if !read(`data: {"type":"refetchEvaluation"`) {
		t.Fatal("a change is not told")
	}
	if _, body := p.evaluate(); !strings.Contains(body, `"value":2`) {
		t.Errorf("after it is told the answer is %s", body)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = read("nothing that comes")
	}()
	if code := p.terminate(); code != 0 {
		t.Errorf("with a stream open it exits with %d", code)
	}
	select {
	case <-ended:
	case <-time.After(patient):
		t.Error("the stream goes on")
	}
}

func TestTokensAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, "FLAGS_FILE="+flagsFile(t, goodFlags), "AUTH_TOKENS_DIR="+dir)
	if status, body := p.get("/readyz"); status != 503 || body != "not ready: nobody is let in: there is no usable token\n" {
		t.Errorf("without a token /readyz answers %d %s", status, body)
	}
	const token = "canary-token-0123456789"
	if response := p.ask("Authorization", "Bearer "+token); response.StatusCode != 503 {
		t.Errorf("without a token a request is answered with %d", response.StatusCode)
	}
	writeFlags(t, filepath.Join(dir, "web"), token)
	p.awaitReady(true)
	if response := p.ask("Authorization", "Bearer "+token); response.StatusCode != 200 {
		t.Errorf("with a token a request is answered with %d", response.StatusCode)
	}
	if response := p.ask(); response.StatusCode != 401 {
		t.Errorf("a request without one is answered with %d", response.StatusCode)
	}
	p.terminate()
	if strings.Contains(p.logs.String(), token) {
		t.Error("the token is in the log")
	}
}

// TestStaleFlagsAreSaid loses the source. What is served goes on, says its age,
// and past the bound the pod is unready.
func TestStaleFlagsAreSaid(t *testing.T) {
	file := flagsFile(t, goodFlags)
	p := launch(t, "FLAGS_FILE="+file, "MAX_STALENESS=1s")
	redistest.Eventually(t, patient, "the flags were not loaded", func() bool {
		status, _ := p.evaluate()
		return status == 200
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "flags past the bound are called fresh", func() bool {
		status, body := p.get("/readyz")
		return status == 503 && strings.Contains(body, "the bound is 1s")
	})
	age, err := strconv.Atoi(p.ask().Header.Get("FlagCache-Age"))
	if err != nil || age < 1 {
		t.Errorf("the age of stale flags is said to be %d (%v)", age, err)
	}
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("stale flags are answered with %d %s", status, body)
	}
	writeFlags(t, file, goodFlags)
	redistest.Eventually(t, 20*time.Second, "fresh flags are called stale", func() bool {
		status, _ := p.get("/readyz")
		return status == 200
	})
}

// TestAProviderThatIsAskedToWait does as OpenFeature's providers do on 429: it
// is silent until the time in Retry-After is over.
func TestAProviderThatIsAskedToWait(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, goodFlags), "RATE_LIMIT=1")
	redistest.Eventually(t, patient, "it is not ready", func() bool { return p.ask().StatusCode != 503 })
	var refused *http.Response
	redistest.Eventually(t, patient, "nothing is refused", func() bool {
		refused = p.ask("Origin", "https://shop.example")
		return refused.StatusCode == 429
	})
	if !strings.Contains(refused.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Errorf("a browser is not shown how long to wait: %v", refused.Header)
	}
	wait, err := strconv.Atoi(refused.Header.Get("Retry-After"))
	if err != nil || wait < 1 {
		t.Fatalf("it is asked to wait %q seconds", refused.Header.Get("Retry-After"))
	}
	<-time.After(time.Duration(wait) * time.Second)
	if response := p.ask(); response.StatusCode != 200 {
		t.Errorf("after the wait it is answered with %d", response.StatusCode)
	}
	if status, _ := p.get("/livez"); status != 200 {
		t.Errorf("/livez answers %d", status)
	}
}

// TestSlowClientsDoNotHoldUpOthers has more slow clients than there may be
// connections, one after the other given up.
func TestSlowClientsDoNotHoldUpOthers(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, goodFlags), "MAX_CONNECTIONS=20")
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
				t.Errorf("a slow client is not given up: %v", err)
			}
		})
	}
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("behind slow clients one is answered with %d %s", status, body)
	}
}

// TestIdleClientsMakeRoom has as many idle connections as there may be.
func TestIdleClientsMakeRoom(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, goodFlags), "MAX_CONNECTIONS=5")
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
		t.Errorf("behind idle clients one is answered with %d %s", status, body)
	}
}

// TestALogThatNobodyReadsHoldsNobodyUp fills the pipe of the log: every failed
// evaluation is a line at the debug level.
func TestALogThatNobodyReadsHoldsNobodyUp(t *testing.T) {
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
		client: &http.Client{Transport: &http.Transport{}, Timeout: patient}}
	defer p.client.CloseIdleConnections()
	p.awaitReady(true)
	for range 3000 {
		if status, body := p.evaluate(); status != 400 || !strings.Contains(body, "PARSE_ERROR") {
			t.Fatalf("it answers %d %s", status, body)
		}
	}
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, "\nlog_lines_dropped_total ") || strings.Contains(metrics, "\nlog_lines_dropped_total 0\n") {
		t.Error("no line of the log is counted as dropped")
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
	p := launch(t, "FLAGS_FILE="+flagsFile(t, goodFlags), "PPROF_ADDRESS="+address,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_COMPRESSION=none", "OTEL_SERVICE_NAME=shop-flags")
	p.awaitReady(true)
	response, err := p.client.Get("http://" + address + "/debug/pprof/heap")
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("there is no profile: %v %v", response, err)
	}
	_ = response.Body.Close()
	if status, _ := p.get("/debug/pprof/heap"); status != 404 {
		t.Errorf("profiles are at the telemetry address too: %d", status)
	}
	p.ask("Authorization", "Bearer canary-token")
	if code := p.terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	for _, want := range []string{"POST /ofrep/v1/evaluate/flags/{key}", "shop-flags"} {
		if !strings.Contains(traces.String(), want) {
			t.Errorf("the traces lack %q", want)
		}
	}
	if strings.Contains(traces.String(), "canary-token") {
		t.Error("a token is in the traces")
	}
}

// TestHeadersForBrowsers is a preflight and a request of a page that may ask.
func TestHeadersForBrowsers(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, goodFlags), "CORS_ALLOWED_ORIGINS=https://shop.example, http://localhost:3000")
	p.awaitReady(true)
	for origin, allowed := range map[string]string{"https://shop.example": "https://shop.example", "http://localhost:3000": "http://localhost:3000", "https://evil.example": ""} {
		response := p.ask("Origin", origin)
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
		t.Errorf("a protocol that is not spoken gives %v", err)
	}
}
