// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// postJSON sends a request of Connect and returns its answer.
func (p *process) postJSON(url, contentType, body string, headers ...string) *http.Response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return response
}

// TestFlagdProtocols follows a stream of documents until the service stops.
func TestFlagdProtocols(t *testing.T) {
	const token = "canary-token-0123456789"
	dir, file := t.TempDir(), flagsFile(t, validFlags)
	writeFile(t, filepath.Join(dir, "app"), token)
	p := launch(t, "FLAGS_FILE="+file, "AUTH_TOKENS_DIR="+dir, "FLAGD_ADDRESS=127.0.0.1:0", "FLAGD_SYNC_ADDRESS=127.0.0.1:0", "EVENT_STREAMS_SPREAD=0s")
	p.awaitReady(true)
	const resolve = "/flagd.evaluation.v2.Service/ResolveInt"
	response := p.postJSON("http://"+p.flagd+resolve, "application/json", `{"flagKey":"flag"}`, "X-API-Key", token)
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if got := string(body); err != nil || got != `{"value":"1","reason":"STATIC","variant":"v","metadata":{}}` {
		t.Errorf("a flag is answered with %s, %v", got, err)
	}
	response = p.postJSON("http://"+p.flagd+resolve, "application/json", `{"flagKey":"flag"}`)
	if _ = response.Body.Close(); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token it is answered with %d", response.StatusCode)
	}
	p.client.Timeout = 0
	stream := p.postJSON("http://"+p.flagdSync+"/flagd.sync.v1.FlagSyncService/SyncFlags", "application/connect+json", "\x00\x00\x00\x00\x02{}", "X-API-Key", token)
	defer func() { _ = stream.Body.Close() }()
	read := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(stream.Body)
		read <- string(all)
	}()
	if code := p.terminate(); code != 0 {
		t.Errorf("with a stream open it exits with %d", code)
	}
	select {
	case all := <-read:
		if !strings.Contains(all, `\"variants\":{\"v\":1}`) || !strings.Contains(all, `"code":"unavailable"`) {
			t.Errorf("the stream was %s", all)
		}
	case <-time.After(timeout):
		t.Error("the stream did not end")
	}
}

// TestFlagdProtocolsAreOff: a pod whose template has no ports for them does not listen.
func TestFlagdProtocolsAreOff(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags))
	if p.flagd != "" || p.flagdSync != "" {
		t.Errorf("it listens at %s and %s", p.flagd, p.flagdSync)
	}
}
