// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"github.com/flagcache/flagcache/controllers/canary"
)

// Limits of a query to a Prometheus server.
const (
	queryTimeout = 5 * time.Second
	// maxResponseBytes of one response. A pod of the flag service has about 30 KB.
	maxResponseBytes = 1 << 20
	// maxSamples of one response; a pod of the flag service has about 120.
	maxSamples           = 8 << 10
	maxConcurrentQueries = 4
	// maxClockSkew between the server and the operator.
	maxClockSkew = 30 * time.Second
)

// Prometheus queries the server that a canary names.
type Prometheus struct {
	// Clock is the time of samples.
	Clock clock.PassiveClock
	// HTTP is the client for querying the server; see NewPrometheusHTTPClient.
	HTTP *http.Client

	// decoding lets one response at a time cost the memory of being decoded, over all
	// canaries. It is held by nothing that waits for a server. One response at a time of each
	// canary is received.
	decoding sync.Mutex
}

// query is one query and how to read its result.
type query struct {
	promQL string
	// invalid is why the query is not run.
	invalid error
	// subject prefixes the message of a failed query, "" for none.
	subject string
	read    func(model.Vector) ([]canary.Stream, error)
}

// Sample implements Source: it queries all checks of both revisions.
func (p *Prometheus) Sample(ctx context.Context, t Target) canary.Evidence {
	sample := canary.Evidence{At: p.Clock.Now()}
	var queries []query
	for _, revision := range []string{t.Candidate, t.Stable} {
		queries = append(queries, queriesOf(revision, t)...)
	}
	streams := make([][]canary.Stream, len(queries))
	missing := make([]string, len(queries))
	var receiving sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxConcurrentQueries)
	for i, q := range queries {
		group.Go(func() error {
			found, err := p.query(ctx, t.Prometheus.Address, q, &receiving)
			streams[i] = found
			if err != nil {
				missing[i] = strings.TrimPrefix(q.subject+": "+messageOf(err), ": ")
			}
			return nil
		})
	}
	_ = group.Wait() // no query returns an error
	sample.Streams = slices.Concat(streams...)
	sample.Missing = joinMessages(missing)
	return sample
}

// joinMessages joins the distinct messages.
func joinMessages(missing []string) string {
	missing = slices.DeleteFunc(missing, func(s string) bool { return s == "" })
	slices.Sort(missing)
	return strings.Join(slices.Compact(missing), "; ")
}

// server returns the API of the server at an address.
func (p *Prometheus) server(address string, receiving, decoding *turn) (promv1.API, error) {
	bounded := *p.HTTP
	bounded.Transport = boundedTransport{next: p.HTTP.Transport, receiving: receiving, decoding: decoding}
	c, err := api.NewClient(api.Config{Address: address, Client: &bounded})
	if err != nil {
		return nil, fmt.Errorf("parsing the address of Prometheus: %w", err)
	}
	return promv1.NewAPI(c), nil
}

// Reasons why counters are not available. They are part of condition messages, so
// their texts are constant.
var (
	errResponseTooLarge = errors.New("a response exceeds 1 MiB")
	errPartial          = errors.New("Prometheus returned an incomplete result")
	errNotVector        = errors.New("a query's result is not an instant vector")
	errClockSkew        = errors.New("the clocks of Prometheus and of the operator differ by more than 30 s")
	errNoSeries         = errors.New("Prometheus has no series of a revision's pods")
	errStale            = errors.New("samples are older than two intervals: set canary.metrics.interval to at least the scrape interval of Prometheus")
	errNotCounters      = errors.New("a query's result has samples that are not counters of events")
	errTooManySamples   = fmt.Errorf("a response has more than %d samples", maxSamples)
	errTooManyPods      = fmt.Errorf("Prometheus has more than %d pods of a revision", maxPods)
	errTooManySeries    = fmt.Errorf("a query's result has more than %d series", maxSeries)
	errNotPrometheus    = errors.New("no valid response from Prometheus at canary.metrics.prometheus.address")
	errUnmatched        = errors.New("a series of bad events has no series of all events with the same labels and at least as many events")
)

// messageOf returns a constant message for an error, without any text of the server.
// It does not distinguish refused connections, timeouts and servers that are not
// Prometheus: that would make the operator a port scanner.
func messageOf(err error) string {
	for _, known := range []error{errResponseTooLarge, errPartial, errNotVector, errClockSkew, errNoSeries, errStale, errNotCounters, errTooManySamples, errTooManyPods, errTooManySeries, errUnmatched} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var invalid invalidQueryError
	if errors.As(err, &invalid) {
		return err.Error()
	}
	var apiErr *promv1.Error
	if errors.As(err, &apiErr) && (apiErr.Type == promv1.ErrBadData || apiErr.Type == promv1.ErrExec) {
		return "Prometheus rejects a query"
	}
	return errNotPrometheus.Error()
}

// query runs one query. With an error the streams may be a part of the result.
func (p *Prometheus) query(ctx context.Context, address string, q query, ofCanary *sync.Mutex) ([]canary.Stream, error) {
	if q.invalid != nil {
		return nil, q.invalid
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	receiving, decoding := &turn{mu: ofCanary}, &turn{mu: &p.decoding}
	defer receiving.end()
	defer decoding.end()
	server, err := p.server(address, receiving, decoding)
	if err != nil {
		return nil, err
	}
	// Without a time the server evaluates at its current time, which reveals clock skew.
	value, warnings, _, err := server.Query(ctx, q.promQL, time.Time{})
	switch {
	case err != nil:
		return nil, fmt.Errorf("querying Prometheus: %w", err)
	case len(warnings) > 0:
		return nil, errPartial
	}
	vector, ok := value.(model.Vector)
	switch {
	case !ok:
		return nil, errNotVector
	case len(vector) > maxSamples:
		return nil, errTooManySamples
	}
	now := p.Clock.Now()
	for _, sample := range vector {
		if sample.Histogram != nil {
			return nil, errNotCounters
		}
		if sample.Timestamp.Time().Sub(now).Abs() > maxClockSkew {
			return nil, errClockSkew
		}
	}
	return q.read(vector)
}

// turn is one query's turn to receive or to decode its response.
type turn struct {
	mu   *sync.Mutex
	held bool
}

// begin waits for the turn.
func (t *turn) begin() {
	if !t.held {
		t.mu.Lock()
		t.held = true
	}
}

func (t *turn) end() {
	if t.held {
		t.mu.Unlock()
		t.held = false
	}
}

// responseStart begins each response of Prometheus. What a response that is too large has
// beyond it is not read, so that this is all that distinguishes Prometheus from other servers.
var responseStart = []byte(`{"status":"`)

// boundedTransport limits the size of decompressed responses, and returns one when it was
// received and may be decoded.
type boundedTransport struct {
	next http.RoundTripper
	// receiving is that of the canary, decoding that of all.
	receiving, decoding *turn
}

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	t.decoding.end() // of a first request that the client repeats with another method
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	t.receiving.begin()
	body, err := io.ReadAll(&cappedBody{ReadCloser: response.Body, left: maxResponseBytes})
	_ = response.Body.Close()
	if errors.Is(err, errResponseTooLarge) && !bytes.HasPrefix(body, responseStart) {
		err = errNotPrometheus
	}
	if err != nil {
		return nil, fmt.Errorf("reading a response of Prometheus: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	t.decoding.begin()
	return response, nil
}

// cappedBody fails reads beyond a number of bytes.
type cappedBody struct {
	io.ReadCloser

	left int
}

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errResponseTooLarge
	}
	return n, err
}
