// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"
)

// Limits of a question to a Prometheus server.
const (
	queryTimeout = 5 * time.Second
	// mostAnswerBytes of one answer. A pod of the flag service has about 30 KB.
	mostAnswerBytes = 1 << 20
	queriesAtOnce   = 4
	// mostSkew between a server's clock and ours.
	mostSkew = 30 * time.Second
)

// Prometheus asks the server that a canary names.
type Prometheus struct {
	// Clock is the time of samples.
	Clock clock.PassiveClock
	// HTTP is how the server is reached; see NewPrometheusHTTPClient.
	HTTP *http.Client
}

// question is one query and what to make of its answer.
type question struct {
	query string
	// about is whom trouble is about, for people; "" where that is clear.
	about string
	read  func(model.Vector) ([]Stream, error)
}

// Sample asks for all checks of both revisions.
func (p *Prometheus) Sample(ctx context.Context, t Target) Sample {
	sample := Sample{At: p.Clock.Now()}
	server, err := p.server(t.Prometheus.Address)
	if err != nil {
		sample.Trouble = troubleOf(err)
		return sample
	}
	var questions []question
	for _, revision := range []string{t.Candidate, t.Stable} {
		questions = append(questions, questionsAbout(revision, t)...)
	}
	streams := make([][]Stream, len(questions))
	troubles := make([]string, len(questions))
	var group errgroup.Group
	group.SetLimit(queriesAtOnce)
	for i, q := range questions {
		group.Go(func() error {
			found, err := p.ask(ctx, server, q)
			streams[i] = found
			if err != nil {
				troubles[i] = strings.TrimPrefix(q.about+": "+troubleOf(err), ": ")
			}
			return nil
		})
	}
	_ = group.Wait() // no question returns an error
	sample.Streams = slices.Concat(streams...)
	sample.Trouble = oneText(troubles)
	return sample
}

// oneText is all different troubles in one sentence.
func oneText(troubles []string) string {
	troubles = slices.DeleteFunc(troubles, func(s string) bool { return s == "" })
	slices.Sort(troubles)
	return strings.Join(slices.Compact(troubles), "; ")
}

// server is the API of the server at an address.
func (p *Prometheus) server(address string) (promv1.API, error) {
	bounded := *p.HTTP
	bounded.Transport = capped{p.HTTP.Transport}
	c, err := api.NewClient(api.Config{Address: address, Client: &bounded})
	if err != nil {
		return nil, fmt.Errorf("reading the address of Prometheus: %w", err)
	}
	return promv1.NewAPI(c), nil
}

// What an answer can be, other than counters; the texts are for people.
var (
	errLargeAnswer = errors.New("an answer has more than 1 MiB")
	errPartial     = errors.New("Prometheus calls its answer incomplete")
	errNoVector    = errors.New("a query's result is no instant vector")
	errSkew        = errors.New("the clocks of Prometheus and of the operator differ by more than 30 s")
	errNothing     = errors.New("Prometheus has no series of a revision's pods")
	errLate        = errors.New("samples are older than two intervals: let metrics.interval be no shorter than Prometheus' scrape interval")
	errNoCounters  = errors.New("a query's result has samples that are no counters of events")
	errManySeries  = fmt.Errorf("a query's result has more than %d series", mostSeries)
	errUnmatched   = errors.New("a series of bad events has no series of all events with the same labels and at least as many")
)

// troubleOf is an error in words that stay the same and that hold nothing the
// server said. Whether an address refuses, is silent or is something else is not
// told apart: that would make the operator a scanner of ports.
func troubleOf(err error) string {
	for _, known := range []error{errLargeAnswer, errPartial, errNoVector, errSkew, errNothing, errLate, errNoCounters, errManySeries, errUnmatched} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var answered *promv1.Error
	if errors.As(err, &answered) && (answered.Type == promv1.ErrBadData || answered.Type == promv1.ErrExec) {
		return "Prometheus refuses a query"
	}
	return "Prometheus does not answer at canary.metrics.prometheus.address"
}

// ask asks one question. The answer to a question with trouble may be a part.
func (p *Prometheus) ask(ctx context.Context, server promv1.API, q question) ([]Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	// Without a time the server evaluates at its own, which shows how its clock goes.
	value, warnings, _, err := server.Query(ctx, q.query, time.Time{})
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking Prometheus: %w", err)
	case len(warnings) > 0:
		return nil, errPartial
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return nil, errNoVector
	}
	now := p.Clock.Now()
	for _, sample := range vector {
		if sample.Histogram != nil {
			return nil, errNoCounters
		}
		if sample.Timestamp.Time().Sub(now).Abs() > mostSkew {
			return nil, errSkew
		}
	}
	return q.read(vector)
}

// capped ends answers that are too long. It counts after decompression.
type capped struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c capped) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &cappedBody{ReadCloser: response.Body, left: mostAnswerBytes}
	return response, nil
}

type cappedBody struct {
	io.ReadCloser

	left int
}

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errLargeAnswer
	}
	return n, err
}
