// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/filewatch"
	"github.com/flagcache/flagcache/service/flags"
)

const (
	// poll is the interval at which the file is read without a notification.
	poll = 5 * time.Second
	// maxInFlight is the maximum number of concurrent requests to the candidate,
	// and of idle connections. With 5 ms per request it allows 12,000 requests per
	// second.
	maxInFlight = 64
	// connectionAge is the approximate maximum age of idle connections. A Service
	// selects a pod per connection and not per request, so the new pods of a
	// scaled-up candidate get no requests before connections are replaced.
	connectionAge = 30 * time.Second
)

// Options configure a Splitter.
type Options struct {
	// File is the path of the operator's file; without it nothing is forwarded.
	File string
	// Salt is the FlagCache's identity; see config.EnvSplitSalt.
	Salt string
	// Revision is this pod's own revision, to which it never forwards; "" if
	// unknown.
	Revision string
	// Served returns the flags that this pod serves, nil if there are none yet. The
	// candidate must have them, too.
	Served func() *flags.Set
	// MaxResponse returns the maximum size of this pod's response for a flag, or for all
	// with an empty key; nil if it is unknown. Where the candidate's may be too large, it
	// is not asked.
	MaxResponse func(key string) int64
	Log         *slog.Logger
}

// Splitter forwards requests to the candidate. It is safe for concurrent use.
type Splitter struct {
	options   Options
	selector  selector
	transport *http.Transport
	metrics   *metrics
	hops      hops
	inFlight  chan struct{}
	// large has a slot for each response that is larger than expected.
	large   chan struct{}
	started time.Time
	// current is nil while nothing is forwarded, and draining once this pod drains.
	current atomic.Pointer[candidate]

	// The last state seen by Run.
	spec              spec
	lastError         string
	connectionsClosed time.Duration
}

// candidate is a spec that is in effect.
type candidate struct {
	spec
	series
	cutOff cutOff
	// missing is kept while only the share of a revision changes.
	missing *missing
}

// draining replaces the candidate when this pod drains.
var draining = new(candidate)

// New returns a Splitter that forwards nothing until Run has read the file.
func New(options Options, registry prometheus.Registerer) *Splitter {
	return &Splitter{
		options:   options,
		selector:  newSelector(options.Salt),
		transport: newTransport(),
		metrics:   newMetrics(registry),
		hops:      newHops(),
		inFlight:  make(chan struct{}, maxInFlight),
		large:     make(chan struct{}, maxLarge),
		started:   time.Now(),
	}
}

// Run reloads the file when it changes, until ctx is done.
func (s *Splitter) Run(ctx context.Context) {
	if s.options.File == "" {
		return
	}
	defer s.transport.CloseIdleConnections()
	filewatch.Watch(ctx, s.options.Log, []string{filepath.Dir(s.options.File)}, poll, nil, s.reload)
}

// Drain stops forwarding for good, because this pod is terminating. A pod of
// the candidate also rejects forwarded requests at once, so that scaling a
// candidate to zero takes effect before the file has reached all pods.
func (s *Splitter) Drain() { s.current.Store(draining) }

// Divert lets the candidate answer a request in its share. It returns the
// status of the candidate's response, or 0 if nothing was written and the
// request must be answered locally. body is the request's body, which is not
// retained. Without a split this costs one atomic load.
func (s *Splitter) Divert(w http.ResponseWriter, r *http.Request, body []byte) (status int) {
	c := s.current.Load()
	if c == nil {
		return 0
	}
	arrived := r.Header[headerSplit]
	switch {
	case c == draining && s.isCandidateOf(arrived):
		return rejectDraining(w)
	case c == draining, s.hops.include(arrived):
		return 0
	}
	key, _ := flags.TargetingKey(body)
	if !s.selector.includes(key, c.share) {
		c.local.Inc()
		return 0
	}
	if answer, ok := s.attempt(r, body, c); ok {
		return answer.send(w)
	}
	return 0
}

// isCandidateOf reports whether a request was forwarded to this pod's revision.
func (s *Splitter) isCandidateOf(arrived []string) bool {
	return len(arrived) > 0 && (s.options.Revision == "" || arrived[0] == s.options.Revision)
}

// attempt forwards a request, unless the candidate is busy or cut off.
func (s *Splitter) attempt(r *http.Request, body []byte, c *candidate) (a candidateResponse, ok bool) {
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		c.skip(config.SplitBusy)
		return candidateResponse{}, false
	}
	start := s.elapsed()
	if !c.cutOff.allows(start) {
		c.skip(config.SplitCutOff)
		return candidateResponse{}, false
	}
	a, outcome, err := s.forward(r, body, c)
	s.record(c, outcome, err, start)
	return a, err == nil
}

// record counts an outcome, which is a result or a reason, and updates the
// cut-off.
func (s *Splitter) record(c *candidate, outcome string, err error, start time.Duration) {
	now := s.elapsed()
	if _, isReason := c.skipped[outcome]; isReason {
		c.skip(outcome)
	} else {
		c.observe(outcome, now-start)
	}
	log := s.options.Log.With("candidate", c.revision)
	if err == nil {
		if c.cutOff.succeeded() {
			log.Info("the candidate has recovered")
		}
		return
	}
	log.Debug("forwarding a request to the candidate failed", "outcome", outcome, "error", err)
	if outcome == config.SplitOversized || outcome == config.SplitMissing || outcome == config.SplitBehind {
		// The candidate has not failed, so it is not cut off.
		return
	}
	if c.cutOff.failed(now) {
		log.Warn("the candidate is cut off after consecutive failures; it is retried once per second", "outcome", outcome, "error", err)
	}
}

// reload reads the file and applies it if it has changed.
func (s *Splitter) reload() {
	next, err := readSpec(s.options.File)
	s.report(err)
	if now := s.elapsed(); next != s.spec || now-s.connectionsClosed >= connectionAge {
		s.connectionsClosed = now
		s.transport.CloseIdleConnections()
	}
	if next != s.spec {
		s.spec = next
		s.apply(next)
	}
}

// report logs once that the file is invalid or valid again.
func (s *Splitter) report(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	switch reason {
	case s.lastError:
		return
	case "":
		s.metrics.fileGood.Set(1)
		s.options.Log.Info("the split is valid again")
	default:
		s.metrics.fileGood.Set(0)
		s.options.Log.Error("the split is invalid, answering all requests locally", "error", err)
	}
	s.lastError = reason
}

// apply puts a spec into effect. Nothing is forwarded to this pod's own
// revision.
func (s *Splitter) apply(o spec) {
	var next *candidate
	if o.share > 0 && o.revision != s.options.Revision {
		next = &candidate{spec: o, series: s.metrics.of(o.revision), missing: &missing{}}
	}
	previous := s.current.Load()
	if next != nil && previous != nil && previous.missing != nil && previous.revision == next.revision {
		next.missing = previous.missing
	}
	// Once the pod drains, draining remains.
	if previous == draining || !s.current.CompareAndSwap(previous, next) {
		return
	}
	switch {
	case next != nil:
		weight := float64(next.share) * 100 / parts
		s.metrics.weight.Set(weight)
		s.options.Log.Info("forwarding requests to the candidate", "candidate", next.revision, "percent", weight, "address", next.host)
	case previous != nil:
		s.metrics.weight.Set(0)
		s.options.Log.Info("answering all requests locally")
	}
}

// elapsed returns the monotonic time since the start.
func (s *Splitter) elapsed() time.Duration { return time.Since(s.started) }
