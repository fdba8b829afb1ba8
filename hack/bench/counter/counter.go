// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package counter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
)

// Counter is a reverse proxy in front of an API server.
type Counter struct {
	proxy *httputil.ReverseProxy
	paths request.RequestInfoFactory

	mu         sync.Mutex
	tally      Tally
	dropEvents bool
}

// New returns a Counter that forwards to the API server of config with its credentials.
func New(config *rest.Config) (*Counter, error) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("creating a transport to the API server: %w", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address: %w", err)
	}
	c := &Counter{
		paths: request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")},
		tally: Tally{},
	}
	c.proxy = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { rewrite(r, server) },
		Transport:      transport,
		FlushInterval:  -1, // forward watch events at once
		ModifyResponse: c.countRefusal,
		ErrorLog:       log.New(io.Discard, "", 0), // clients close watches all the time
	}
	return c, nil
}

func rewrite(r *httputil.ProxyRequest, server *url.URL) {
	r.SetURL(server)
	r.Out.Header.Del("Authorization")
}

// writeKey is the context key of the Write that a request was counted as.
type writeKey struct{}

// ServeHTTP implements http.Handler. A write is counted before it is forwarded, so that
// the Tally includes it as soon as its effect is visible.
func (c *Counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if write, ok := c.classify(r); ok {
		c.add(write, 1)
		if IsEvent(write) && c.dropsEvents() {
			drop(w, r)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), writeKey{}, write))
	}
	c.proxy.ServeHTTP(w, r)
}

// classify returns the Write of a request, or false if it is none.
func (c *Counter) classify(r *http.Request) (Write, bool) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return Write{}, false
	}
	info, err := c.paths.NewRequestInfo(r)
	if err != nil || !info.IsResourceRequest {
		return Write{Method: r.Method, Resource: r.URL.Path}, true
	}
	resource := info.Resource
	if info.APIGroup != "" {
		resource += "." + info.APIGroup
	}
	return Write{Method: r.Method, Namespace: info.Namespace, Resource: resource, Subresource: info.Subresource}, true
}

// countRefusal counts a failed write as refused.
func (c *Counter) countRefusal(response *http.Response) error {
	write, ok := response.Request.Context().Value(writeKey{}).(Write)
	if ok && response.StatusCode >= http.StatusBadRequest {
		c.add(write, -1)
		write.Refused = true
		c.add(write, 1)
	}
	return nil
}

func (c *Counter) add(w Write, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tally[w] += n; c.tally[w] == 0 {
		delete(c.tally, w)
	}
}

// DropEvents makes the counter accept Events without forwarding them: those of very many
// objects fill etcd.
func (c *Counter) DropEvents() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropEvents = true
}

func (c *Counter) dropsEvents() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropEvents
}

// drop responds as if an object was created, which is then not found.
func drop(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.Copy(w, r.Body) // a client that disconnects will retry
}

// Tally returns the counts until now.
func (c *Counter) Tally() Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.tally)
}

// TallyHandler serves the Tally as JSON.
func (c *Counter) TallyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A client that disconnects will retry.
		_ = json.NewEncoder(w).Encode(c.Tally())
	})
}

// Serve serves the handler on the listener until ctx ends, with TLS if a certificate is
// given.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, certificate *tls.Certificate) error {
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	var err error
	if certificate == nil {
		err = server.Serve(listener)
	} else {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
		err = server.ServeTLS(listener, "", "")
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
}
