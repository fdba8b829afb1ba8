// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// get returns the response of a server with a number of bytes.
func get(ctx context.Context, t *testing.T, c *http.Client, server string, size int) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"?size="+strconv.Itoa(size), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// TestLiveResponsesAreBounded: lists that others made large end in an error before they are decoded.
func TestLiveResponsesAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		_, _ = io.WriteString(w, strings.Repeat("x", size))
	}))
	defer server.Close()
	c := &http.Client{Transport: boundResponses(http.DefaultTransport)}
	for size, want := range map[int]error{0: nil, largeLiveResponse: nil, maxLiveResponse: nil, maxLiveResponse + 1: errLiveTooLarge} {
		response := get(t.Context(), t, c, server.URL, size)
		got, err := io.ReadAll(response.Body)
		if !errors.Is(err, want) || err == nil && len(got) != size {
			t.Errorf("%d bytes: read %d, error %v", size, len(got), err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOneLargeLiveResponseAtATime: others wait, but no longer than their context, and small ones do not.
func TestOneLargeLiveResponseAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := make(chan struct{}, 1)
		body := func(ctx context.Context, size int) *boundedBody {
			return &boundedBody{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", size))), ctx: ctx, large: large}
		}
		first := body(t.Context(), largeLiveResponse+1)
		if _, err := io.ReadAll(first); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(body(t.Context(), largeLiveResponse)); err != nil {
			t.Errorf("a small one fails: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := io.ReadAll(body(ctx, largeLiveResponse+1)); !errors.Is(err, context.Canceled) {
			t.Errorf("another large one ends with %v", err)
		}
		second, done := body(t.Context(), largeLiveResponse+1), false
		go func() {
			_, err := io.ReadAll(second)
			done = err == nil
		}()
		synctest.Wait()
		if done {
			t.Error("another large one does not wait")
		}
		_ = first.Close()
		synctest.Wait()
		if !done {
			t.Error("another large one still waits")
		}
		_ = second.Close()
		if len(large) > 0 {
			t.Error("the turn is not returned")
		}
	})
}
