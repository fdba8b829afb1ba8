// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/flagcache/flagcache/service/config"
)

// Health says whether requests should come here.
type Health struct {
	Ready bool
	// Details is one line for people: what is served and how old it is, or why
	// nothing is.
	Details string
}

// Telemetry answers /livez, /readyz and /metrics. /livez says that the process
// answers and nothing more: a restart helps against nothing else.
func Telemetry(health func() Health, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+config.PathLive, func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "alive")
	})
	mux.HandleFunc("GET "+config.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		state := health()
		if state.Ready {
			writeText(w, http.StatusOK, "ready: "+state.Details)
			return
		}
		writeText(w, http.StatusServiceUnavailable, "not ready: "+state.Details)
	})
	mux.Handle("GET "+config.PathMetrics, promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
