// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"net/http"
	"net/http/pprof"
)

// Profiles serves Go's profiles of the process under /debug/pprof/. They reveal
// internals and cost CPU time, so access to their address should be restricted.
func Profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
