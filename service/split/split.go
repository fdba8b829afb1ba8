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
	// poll is how often the file is read without a notification.
	poll = 5 * time.Second
	// maxInFlight is the most requests under way to the candidate, and the most
	// connections kept. With a candidate that takes 5 ms it is 12,000 a second.
	maxInFlight = 64
	// connectionAge is how long idle connections are kept, about. A Service chooses
	// a pod for a connection and not for a request, so a candidate that was scaled
	// up gets nothing on its new pods before connections are made anew.
	connectionAge = 30 * time.Second
)

// Options are what a Splitter needs.
type Options struct {
	// File is the path of the operator's file; without it nothing is handed on.
	File string
	// Salt is the FlagCache's identity; see config.EnvSplitSalt.
	Salt string
	// Revision is this pod's own, which it never hands on to; "" if unknown.
	Revision string
	Log      *slog.Logger
}

// Splitter hands requests to the candidate. It is safe for concurrent use.
type Splitter struct {
	options   Options
	chooser   chooser
	transport *http.Transport
	metrics   *metrics
	inFlight  chan struct{}
	started   time.Time
	// current is nil while nothing is handed on, and leaving once this pod drains.
	current atomic.Pointer[candidate]

	// What Run has seen last.
	order   order
	trouble string
	renewed time.Duration
}

// candidate is an order that is being followed.
type candidate struct {
	order
	account
	cutOff cutOff
}

// leaving stands in for the candidate when this pod drains.
var leaving = new(candidate)

// New returns a Splitter that hands nothing on until Run has read the file.
func New(options Options, registry prometheus.Registerer) *Splitter {
	return &Splitter{
		options:   options,
		chooser:   newChooser(options.Salt),
		transport: newTransport(),
		metrics:   newMetrics(registry),
		inFlight:  make(chan struct{}, maxInFlight),
		started:   time.Now(),
	}
}

// Run follows the file until ctx is done.
func (s *Splitter) Run(ctx context.Context) {
	if s.options.File == "" {
		return
	}
	defer s.transport.CloseIdleConnections()
	filewatch.Watch(ctx, s.options.Log, []string{filepath.Dir(s.options.File)}, poll, nil, s.look)
}

// Drain ends the handing on for good: this pod is being stopped. If it is the
// candidate's, it also sends back at once what others hand to it, so that
// scaling a candidate to zero cuts it off before the file has reached anybody.
func (s *Splitter) Drain() { s.current.Store(leaving) }

// Divert lets the candidate answer a request that is in its share. It returns the
// status that the candidate answered with, or 0 if nothing was written and the
// request is to be answered here. The body is the request's, already read, and is
// not kept. While there is no split this costs one atomic load.
func (s *Splitter) Divert(w http.ResponseWriter, r *http.Request, body []byte) (status int) {
	c := s.current.Load()
	if c == nil {
		return 0
	}
	_, handedOn := r.Header[headerSplit]
	switch {
	case c == leaving && handedOn:
		return sendBack(w)
	case c == leaving, handedOn:
		return 0
	}
	key, _ := flags.TargetingKey(body)
	if !s.chooser.includes(key, c.share) {
		c.local.Inc()
		return 0
	}
	if answer, ok := s.attempt(r, body, c); ok {
		return answer.send(w)
	}
	return 0
}

// attempt asks the candidate, unless it is not to be asked now.
func (s *Splitter) attempt(r *http.Request, body []byte, c *candidate) (a answer, ok bool) {
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		c.skip(config.SplitBusy)
		return answer{}, false
	}
	start := s.elapsed()
	if !c.cutOff.admits(start) {
		c.skip(config.SplitCutOff)
		return answer{}, false
	}
	a, outcome, err := s.ask(r, body, c.order)
	s.judge(c, outcome, err, start)
	return a, err == nil
}

// judge counts an outcome, which is a result or a reason, and heeds it.
func (s *Splitter) judge(c *candidate, outcome string, err error, start time.Duration) {
	now := s.elapsed()
	if _, isReason := c.skipped[outcome]; isReason {
		c.skip(outcome)
	} else {
		c.answered(outcome, now-start)
	}
	log := s.options.Log.With("candidate", c.revision)
	if err == nil {
		if c.cutOff.succeeded() {
			log.Info("the candidate answers again")
		}
		return
	}
	log.Debug("the candidate did not answer a request", "outcome", outcome, "error", err)
	if c.cutOff.failed(now) {
		log.Warn("the candidate only fails and is asked once a second", "outcome", outcome, "error", err)
	}
}

// look reads the file and follows it if it has changed.
func (s *Splitter) look() {
	order, err := readOrder(s.options.File)
	s.report(err)
	if now := s.elapsed(); order != s.order || now-s.renewed >= connectionAge {
		s.renewed = now
		s.transport.CloseIdleConnections()
	}
	if order != s.order {
		s.order = order
		s.follow(order)
	}
}

// report says that the file is broken or whole again, once.
func (s *Splitter) report(err error) {
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	switch trouble {
	case s.trouble:
		return
	case "":
		s.metrics.fileGood.Set(1)
		s.options.Log.Info("the split can be read again")
	default:
		s.metrics.fileGood.Set(0)
		s.options.Log.Error("the split cannot be read and counts as none", "error", err)
	}
	s.trouble = trouble
}

// follow makes requests heed an order. This pod's own revision is asked nothing.
func (s *Splitter) follow(o order) {
	var next *candidate
	if o.share > 0 && o.revision != s.options.Revision {
		next = &candidate{order: o, account: s.metrics.open(o.revision)}
	}
	previous := s.current.Load()
	// Whoever drains has stored leaving, which stays.
	if previous == leaving || !s.current.CompareAndSwap(previous, next) {
		return
	}
	switch {
	case next != nil:
		weight := float64(next.share) * 100 / parts
		s.metrics.weight.Set(weight)
		s.options.Log.Info("handing requests to the candidate", "candidate", next.revision, "percent", weight, "address", next.host)
	case previous != nil:
		s.metrics.weight.Set(0)
		s.options.Log.Info("answering every request here")
	}
}

// elapsed is the time on a clock that nobody sets.
func (s *Splitter) elapsed() time.Duration { return time.Since(s.started) }
