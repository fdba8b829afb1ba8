// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/service/config"
)

const (
	dialTimeout = 200 * time.Millisecond
	// idleTimeout is well under the time after which the candidate closes idle
	// connections itself, so that no request meets a connection's end.
	idleTimeout     = 30 * time.Second
	maxHeaderBytes  = 32 << 10
	maxAnswer       = 4 << 20
	contentTypeJSON = "application/json"
)

// newTransport returns what talks to candidates: no proxy, no redirects, no
// compression of its own, so that bytes, ETag and encoding arrive as they are.
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

// answer is a whole answer of the candidate.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask hands a request to the candidate and returns its answer, or what went
// wrong, as a result or a reason and an error. It does not end with the client.
func (s *Splitter) ask(r *http.Request, body []byte, o order) (answer, string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), o.timeout)
	defer cancel()
	request, err := requestTo(ctx, r, body, o)
	if err != nil {
		return answer{}, config.SplitError, err
	}
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return answer{}, outcomeOf(err), fmt.Errorf("asking the candidate: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer{}, outcomeOf(err), fmt.Errorf("reading the candidate's answer: %w", err)
	}
	if response.Header.Get(headerSplit) == config.SplitDraining {
		return answer{}, config.SplitDraining, errors.New("the candidate's pod is being stopped")
	}
	a := answer{response.StatusCode, response.Header, content}
	if err := a.check(r.Header, o.revision); err != nil {
		return answer{}, config.SplitError, fmt.Errorf("checking the candidate's answer: %w", err)
	}
	a.header.Set(config.HeaderRevision, o.revision)
	return a, config.SplitOK, nil
}

// requestTo is the client's request, addressed to the candidate. The body is
// copied: the transport may still read it when the request has failed.
func requestTo(ctx context.Context, r *http.Request, body []byte, o order) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+o.host, bytes.NewReader(bytes.Clone(body)))
	if err != nil {
		return nil, fmt.Errorf("addressing the candidate: %w", err)
	}
	request.URL = &url.URL{Scheme: "http", Host: o.host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	request.Header = endToEnd(r.Header)
	request.Header[headerSplit] = []string{o.revision}
	if _, named := request.Header["User-Agent"]; !named {
		// An absent one would become that of Go's client.
		request.Header["User-Agent"] = nil
	}
	return request, nil
}

// outcomeOf says what an error in talking to the candidate means.
func outcomeOf(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var network net.Error
	switch {
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

// check says what keeps an answer from being one. The stable pod has already
// found the request's method, size and credentials good, so that any other
// status, such as 401 or 429, is the candidate's trouble and not the client's.
func (a answer) check(asked http.Header, revision string) error {
	if answered := a.header.Get(config.HeaderRevision); answered != "" && answered != revision {
		return fmt.Errorf("revision %q answered", answered)
	}
	switch a.status {
	case http.StatusOK, http.StatusBadRequest, http.StatusNotFound:
		return a.checkBody()
	case http.StatusNotModified:
		if _, conditional := asked["If-None-Match"]; conditional {
			return nil
		}
	}
	return fmt.Errorf("the status is %d", a.status)
}

// checkBody looks at a body that is not compressed; of one that is, it is known
// to be whole.
func (a answer) checkBody() error {
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	switch {
	case len(a.body) > maxAnswer:
		return fmt.Errorf("it has more than %d bytes", maxAnswer)
	case !strings.EqualFold(strings.TrimSpace(mediaType), contentTypeJSON):
		return fmt.Errorf("its type is %q", mediaType)
	case len(a.body) == 0:
		return errors.New("it is empty")
	case a.header.Get("Content-Encoding") == "" && !json.Valid(a.body):
		return errors.New("it is not JSON")
	default:
		return nil
	}
}

// send passes the answer on. What the stable pod has set and the candidate has
// not, stays.
func (a answer) send(w http.ResponseWriter) (status int) {
	header := w.Header()
	for name, values := range endToEnd(a.header) {
		header[name] = values
	}
	if a.status != http.StatusNotModified {
		header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	// A client that has gone away needs no answer.
	_, _ = w.Write(a.body)
	return a.status
}

// sendBack is what a pod that drains answers to a request that was handed to it.
func sendBack(w http.ResponseWriter) (status int) {
	header := w.Header()
	header[headerSplit] = []string{config.SplitDraining}
	header["Connection"] = []string{"close"}
	header["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusServiceUnavailable)
	return http.StatusServiceUnavailable
}

var headerSplit = http.CanonicalHeaderKey(config.HeaderSplit)

// hopByHop are headers about one connection, and what each hop makes anew.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect", "Content-Length", "Date",
}

// endToEnd returns a copy of the headers without those that are about the
// connection they came on.
func endToEnd(header http.Header) http.Header {
	kept := header.Clone()
	for _, options := range header["Connection"] {
		for option := range strings.SplitSeq(options, ",") {
			delete(kept, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(option)))
		}
	}
	for name := range kept {
		if slices.Contains(hopByHop, name) {
			delete(kept, name)
		}
	}
	return kept
}
