// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"testing"
)

func TestResponsesAreReadCompletely(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\nDate: now\r\n\r\n12345"
	for n := range len(answer) {
		if complete, err := isComplete([]byte(answer[:n])); complete || err != nil {
			t.Fatalf("after %d bytes of %d: %t, %v", n, len(answer), complete, err)
		}
	}
	if complete, err := isComplete([]byte(answer)); !complete || err != nil {
		t.Errorf("with all bytes: %t, %v", complete, err)
	}
}

func TestUnexpectedResponsesAreErrors(t *testing.T) {
	for name, answer := range map[string]string{
		"a failure":        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
		"without a length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a broken length":  "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
	} {
		if _, err := isComplete([]byte(answer)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestNumberOfFlagsMatchesReport(t *testing.T) {
	data, err := flagsDocument()
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Flags map[string]any }
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Flags) != flagCount {
		t.Errorf("it has %d flags, want %d", len(document.Flags), flagCount)
	}
}
