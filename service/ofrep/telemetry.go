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

// Health is the readiness of the service.
type Health struct {
	Ready bool
	// Details is one human-readable line: which flags are served and their age, or
	// why none are.
	Details string
}

// Telemetry serves /livez, /readyz and /metrics. /livez only reports that the
// process responds, because nothing else is fixed by a restart.
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
