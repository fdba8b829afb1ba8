// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// transport makes a new connection for each request: which pod of a Service
// answers is decided by the connection.
var transport = &http.Transport{DisableKeepAlives: true}

// ServeHTTP passes a request on to one of the backends, by their weights.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, ok := g.choose()
	if !ok {
		http.Error(w, "no route has a backend", http.StatusServiceUnavailable)
		return
	}
	proxy := httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: host}) },
		Transport: transport,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				slog.Warn("A backend does not answer", "backend", host, "error", err)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// choose draws a backend; ok is false where there is none.
func (g *gateway) choose() (host string, ok bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var all []backend
	sum := int32(0)
	for _, backends := range g.routes {
		for _, b := range backends {
			all = append(all, b)
			sum += b.weight
		}
	}
	if sum == 0 {
		return "", false
	}
	drawn := rand.Int32N(sum)
	for _, b := range all {
		if drawn -= b.weight; drawn < 0 {
			return b.host, true
		}
	}
	return "", false
}
