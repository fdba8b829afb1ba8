// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
)

const (
	// bareCommand runs the bare handler; the file with its response follows.
	bareCommand = "bare"
	// allocationsMetric is the Go runtime's metric for the number of allocations.
	allocationsMetric = "go_memstats_mallocs_total"
)

// serveBare responds to every request with the content of a file: the cost of net/http
// itself. It prints its addresses as the flag service does.
func serveBare(ctx context.Context, path string) error {
	answer, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the response file: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	telemetry, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for telemetry: %w", err)
	}
	line := startLine{Message: startMessage, OFREP: listener.Addr().String(), Telemetry: telemetry.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return fmt.Errorf("printing the addresses: %w", err)
	}
	failed := make(chan error, 2)
	go func() { failed <- http.Serve(listener, constant(answer)) }()
	go func() { failed <- http.Serve(telemetry, http.HandlerFunc(allocations)) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		return errors.Join(listener.Close(), telemetry.Close())
	}
}

func constant(answer []byte) http.Handler {
	contentType, length := []string{"application/json"}, []string{strconv.Itoa(len(answer))}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header["Content-Type"], header["Content-Length"] = contentType, length
		// The client may have disconnected.
		_, _ = w.Write(answer)
	})
}

func allocations(w http.ResponseWriter, _ *http.Request) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Fprintf(w, "%s %d\n", allocationsMetric, stats.Mallocs)
}
