// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Limits of what is read from the API server rather than from caches. Whoever may create pods, or
// objects with the labels of children, can make a list of any size, which decoded costs several
// times as much.
const (
	// maxLiveResponse of one response, in bytes. 200 pods have about 2 MiB.
	maxLiveResponse = 8 << 20
	// largeLiveResponse is larger than any single object: one response at a time exceeds it.
	largeLiveResponse = 2 << 20
)

var errLiveTooLarge = fmt.Errorf("a response of the API server has more than %d bytes: delete what has labels of the FlagCache and was not created by the operator", maxLiveResponse)

// liveClient returns a client without a cache, whose responses are bounded.
func liveClient(mgr ctrl.Manager) (client.Client, error) {
	config := rest.CopyConfig(mgr.GetConfig())
	config.Wrap(boundResponses)
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("setting up the transport of live reads: %w", err)
	}
	c, err := client.New(config, client.Options{HTTPClient: httpClient, Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("setting up the client of live reads: %w", err)
	}
	return c, nil
}

// boundResponses bounds the responses of a transport.
func boundResponses(next http.RoundTripper) http.RoundTripper {
	return &boundedResponses{next: next, large: make(chan struct{}, 1)}
}

type boundedResponses struct {
	next http.RoundTripper
	// large has an element while a large response is received.
	large chan struct{}
}

// RoundTrip implements http.RoundTripper.
func (b *boundedResponses) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{ReadCloser: response.Body, ctx: request.Context(), large: b.large}
	return response, nil
}

// boundedBody fails reads beyond maxLiveResponse, and waits for its turn beyond
// largeLiveResponse.
type boundedBody struct {
	io.ReadCloser

	ctx   context.Context
	large chan struct{}
	held  bool
	read  int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += n; b.read > maxLiveResponse {
		return 0, errLiveTooLarge
	}
	if b.read > largeLiveResponse && !b.held {
		select {
		case b.large <- struct{}{}:
			b.held = true
		case <-b.ctx.Done():
			return 0, fmt.Errorf("waiting for another large response: %w", b.ctx.Err())
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *boundedBody) Close() error {
	if b.held {
		b.held = false
		<-b.large
	}
	return b.ReadCloser.Close()
}
