// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
)

// streamTokenParameter is the query parameter of a client's stream token.
const streamTokenParameter = "token"

// StreamWriteTimeout is the recommended StreamOptions.WriteTimeout.
const StreamWriteTimeout = 5 * time.Second

// StreamOptions configure event streams.
type StreamOptions struct {
	// Max is the maximum number of concurrent streams.
	Max int
	// Inactivity is how long clients should keep the stream of an inactive page. It
	// is sent in whole seconds.
	Inactivity time.Duration
	// Heartbeat is the interval at which an idle stream is sent a comment, so that
	// both sides detect a broken connection.
	Heartbeat time.Duration
	// Spread is the time over which clients are notified of a change, so that they
	// do not all send requests at once.
	Spread time.Duration
	// WriteTimeout is how long a client may take to accept an event before its
	// stream is closed.
	WriteTimeout time.Duration
}

// Streams notify clients of changed flags: OFREP's event streams, and those of other
// protocols (Follow). A stream has no queue: its only event is that the flags changed, so
// a slow client is notified once, of the latest change.
type Streams struct {
	options StreamOptions
	now     func() time.Time
	// head and tail are the extra members of bulk responses before and after a
	// client's token.
	head, tail string
	open       atomic.Int64

	mu     sync.Mutex
	latest Change
	closed bool
	done   chan struct{}
}

// Change is a change of the flags.
type Change struct {
	// At is when this instance began to serve the flags; zero before the first ones.
	At time.Time
	// Number distinguishes changes at the same time.
	Number int
	// To is the position of the flags after it, which may be unknown.
	To Position
	// superseded is closed by the next change.
	superseded chan struct{}
}

// NewStreams returns Streams without clients.
func NewStreams(options StreamOptions, now func() time.Time) *Streams {
	return &Streams{
		options: options,
		now:     now,
		head:    `,"eventStreams":[{"type":"sse","endpoint":{"requestUri":"` + config.PathEvents,
		tail:    `"},"inactivityDelaySec":` + strconv.Itoa(max(1, int(options.Inactivity/time.Second))) + `}]`,
		latest:  Change{superseded: make(chan struct{})},
		done:    make(chan struct{}),
	}
}

// Register registers the metric of open streams.
func (s *Streams) Register(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: config.MetricStreams,
		Help: "Number of open event streams.",
	}, func() float64 { return float64(s.open.Load()) }))
}

// Changed notifies all clients of changed flags, which are now at a position. It is called
// when they are served.
func (s *Streams) Changed(to Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.latest.superseded)
	s.latest = Change{At: s.now(), Number: s.latest.Number + 1, To: to, superseded: make(chan struct{})}
}

// Close ends all streams.
func (s *Streams) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
}

func (s *Streams) current() Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// appendTo appends the extra members of a bulk response. The URI has no host,
// because a proxy in front may have another.
func (s *Streams) appendTo(to []byte, client *access.Client) []byte {
	if s == nil {
		return to
	}
	to = append(to, s.head...)
	if client != nil {
		to = append(append(to, "?"+streamTokenParameter+"="...), client.StreamToken...)
	}
	return append(to, s.tail...)
}

// Validity reports whether a stream may continue, and returns a channel that is
// closed when that may have changed.
type Validity func() (valid bool, changed <-chan struct{})

// Follower sends the messages of one stream in its protocol. An error ends the stream.
type Follower interface {
	// Begin is called once, with the latest change of the flags.
	Begin(latest Change) error
	// Changed is called when the flags have changed since.
	Changed(latest Change) error
	// Idle is called at the interval StreamOptions.Heartbeat.
	Idle() error
}

// Reasons for the end of a stream that are not errors of its connection.
var (
	// ErrStopping means that the service stops.
	ErrStopping = errors.New("the service is stopping")
	// ErrRevoked means that the client's token is not valid any more.
	ErrRevoked = errors.New("the token has been revoked")
)

// WriteTimeout returns how long a client may take to accept a message of the given size.
func (s *Streams) WriteTimeout(bytes int64) time.Duration {
	return s.options.WriteTimeout + time.Duration(bytes)*time.Second/minBytesPerSecond
}

// minBytesPerSecond is the rate at which a client has to accept large messages.
const minBytesPerSecond = 128 << 10

// Acquire counts an open stream. It returns false if there are too many. Release must be
// called at its end.
func (s *Streams) Acquire() bool {
	if s.open.Add(1) > int64(s.options.Max) {
		s.open.Add(-1)
		return false
	}
	return true
}

// Release ends what Acquire began.
func (s *Streams) Release() { s.open.Add(-1) }

// Follow calls the follower until ctx is done, the client's token is revoked, the streams
// are closed or the follower fails. It returns the reason.
func (s *Streams) Follow(ctx context.Context, to Follower, check Validity) error {
	latest := s.current()
	if err := to.Begin(latest); err != nil {
		return err
	}
	heartbeat := time.NewTicker(s.options.Heartbeat)
	defer heartbeat.Stop()
	var err error
	valid, revoked := check()
	for err == nil && valid {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return ErrStopping
		case <-revoked:
			valid, revoked = check()
		case <-heartbeat.C:
			err = to.Idle()
		case <-latest.superseded:
			if err = s.awaitTurn(ctx); err == nil {
				latest = s.current()
				err = to.Changed(latest)
			}
		}
	}
	if err == nil {
		err = ErrRevoked
	}
	return err
}

// awaitTurn delays the notification of this client. It returns an error if the stream
// has ended.
func (s *Streams) awaitTurn(ctx context.Context) error {
	if s.options.Spread == 0 {
		return nil
	}
	turn := time.NewTimer(rand.N(s.options.Spread))
	defer turn.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrStopping
	case <-turn.C:
		return nil
	}
}
