// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command hostile looks like a flag service that is alive and ready, and harms whoever reads its
// metrics, as the environment variable METRICS requests:
//
//	families   4 MiB of families of one line each
//	endless    text that never ends, as fast as the reader takes it
//
// On port 9090 it accepts connections and never answers.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/flagcache/flagcache/service/config"
)

const (
	// familiesSize is the size of the answer with many families, in bytes.
	familiesSize = 4 << 20
	// silentAddress is where it never answers.
	silentAddress = ":9090"
)

func main() {
	if err := run(os.Getenv("METRICS")); err != nil {
		slog.Error("Exiting", "error", err)
		os.Exit(1)
	}
}

func run(kind string) error {
	silent, err := net.Listen("tcp", silentAddress)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	served := make(chan error, 3)
	go func() { served <- neverAnswer(silent) }()
	for _, port := range []int{config.PortOFREP, config.PortTelemetry} {
		server := &http.Server{Addr: ":" + strconv.Itoa(port), Handler: handler(kind), ReadHeaderTimeout: 5 * time.Second}
		go func() { served <- server.ListenAndServe() }()
	}
	return <-served
}

// handler answers everything with success, and requests for metrics with harm.
func handler(kind string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc(config.PathMetrics, func(w http.ResponseWriter, r *http.Request) {
		limit := familiesSize
		if kind == "endless" {
			limit = 0
		}
		// The reader may close the connection.
		_ = writeFamilies(w, limit)
	})
	return mux
}

// writeFamilies writes families of one line, up to a number of bytes; 0 means no end.
func writeFamilies(to io.Writer, limit int) error {
	w := bufio.NewWriter(to)
	for i, written := 0, 0; limit == 0 || written < limit; i++ {
		n, err := fmt.Fprintf(w, "m%d 1\n", i)
		if err != nil {
			return fmt.Errorf("writing metrics: %w", err)
		}
		written += n
	}
	return w.Flush()
}

// neverAnswer accepts connections and reads what they send until they are closed.
func neverAnswer(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // the client has given up
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}
