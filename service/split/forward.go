// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
)

const (
	dialTimeout = 200 * time.Millisecond
	// idleTimeout is well below the time after which the candidate closes idle
	// connections, so that no request is sent on a closing connection.
	idleTimeout    = 30 * time.Second
	maxHeaderBytes = 32 << 10
)

// newTransport returns the transport to candidates: without proxy, redirects or
// its own compression, so that body, ETag and encoding are forwarded unchanged.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableCompression:     true,
		MaxIdleConns:           maxInFlight,
		MaxIdleConnsPerHost:    maxInFlight,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// forward sends a request to the candidate and returns its response, or an
// error with its result or reason. It is not canceled when the client
// disconnects.
func (s *Splitter) forward(r *http.Request, body []byte, c *candidate) (candidateResponse, string, error) {
	o := c.spec
	if s.options.MaxResponse != nil && s.options.MaxResponse(keyOf(r)) > maxResponse {
		return candidateResponse{}, config.SplitOversized, errOversizedResponse
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), o.timeout)
	defer cancel()
	request, err := s.requestTo(ctx, r, body, o)
	switch {
	case errors.Is(err, errOversized):
		return candidateResponse{}, config.SplitOversized, err
	case err != nil:
		return candidateResponse{}, config.SplitError, err
	}
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return candidateResponse{}, classify(err), fmt.Errorf("forwarding to the candidate: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < http.StatusOK {
		// The body of a protocol switch is the connection itself, which neither ends
		// nor is subject to the timeout.
		return candidateResponse{}, config.SplitError, fmt.Errorf("the status is %d: the candidate switches protocols", response.StatusCode)
	}
	memory := s.roomFor(keyOf(r))
	defer memory.release()
	content, err := memory.read(response.Body)
	if err != nil {
		return candidateResponse{}, classify(err), fmt.Errorf("reading the candidate's response: %w", err)
	}
	if response.Header.Get(headerSplit) == config.SplitDraining {
		return candidateResponse{}, config.SplitDraining, errors.New("the candidate's pod is terminating")
	}
	a := candidateResponse{response.StatusCode, response.Header, content}
	if outcome, err := s.check(a, newQuestion(r, body, request.Header, s.served(), memory), c); err != nil {
		return candidateResponse{}, outcome, fmt.Errorf("checking the candidate's response: %w", err)
	}
	if a.header.Get(config.HeaderBehind) != "" {
		return candidateResponse{}, config.SplitBehind, errBehind
	}
	a.header.Set(config.HeaderRevision, o.revision)
	return a, config.SplitOK, nil
}

// check checks a response. A flag that is missing is a failure if it still is
// after a change of flags must have reached the candidate.
func (s *Splitter) check(a candidateResponse, q question, c *candidate) (outcome string, err error) {
	err = a.check(q, c.revision)
	var absent *missingError
	switch {
	case err == nil:
		if a.status == http.StatusOK {
			c.missing.found(q.key)
		}
		return config.SplitOK, nil
	case errors.Is(err, errNoRoom):
		return config.SplitBusy, err
	case errors.As(err, &absent) && !c.missing.persists(absent.key, s.elapsed()):
		return config.SplitMissing, err
	default:
		return config.SplitError, err
	}
}

// served returns the flags that this pod serves; nil if there are none yet.
func (s *Splitter) served() *flags.Set {
	if s.options.Served == nil {
		return nil
	}
	return s.options.Served()
}

// requestTo returns the client's request with the candidate's address. The body
// is copied, because the transport may still read it after the request has
// failed.
func (s *Splitter) requestTo(ctx context.Context, r *http.Request, body []byte, o spec) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+o.host, bytes.NewReader(bytes.Clone(body)))
	if err != nil {
		return nil, fmt.Errorf("creating the candidate's request: %w", err)
	}
	request.URL = &url.URL{Scheme: "http", Host: o.host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	request.Header = forwardedHeader(r.Header)
	request.Header[headerSplit] = s.hops.next(o.revision, r.Header[headerSplit])
	if headSize(request) > maxRequestHead {
		return nil, errOversized
	}
	return request, nil
}

// maxRequestHead is the maximum size of the request line and the headers of a
// forwarded request, below the limit of the flag service. A client's request may
// become longer, because its URL is escaped and the stable pod adds a header.
const maxRequestHead = 32 << 10

var (
	errOversized         = errors.New("the request line and the headers are too large to be forwarded")
	errOversizedResponse = errors.New("the response may be too large to be checked")
	errBehind            = errors.New("the candidate's flags are older than those that the client was notified of")
)

func headSize(request *http.Request) int {
	size := len(request.URL.RequestURI()) + len(request.URL.Host)
	for name, values := range request.Header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}

// classify returns the result or reason for an error of a request to the
// candidate.
func classify(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var network net.Error
	switch {
	case errors.Is(err, errNoRoom):
		return config.SplitBusy
	case errors.As(err, &dns):
		return config.SplitUnresolved
	case errors.As(err, &network) && network.Timeout():
		return config.SplitTimeout
	case errors.As(err, &op) && op.Op == "dial":
		return config.SplitRefused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return config.SplitTruncated
	default:
		return config.SplitError
	}
}
