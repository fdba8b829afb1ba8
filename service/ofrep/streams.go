// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"context"
	"math/rand/v2"
	"net/http"
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

// StreamWriteTimeout is a good StreamOptions.WriteTimeout.
const StreamWriteTimeout = 5 * time.Second

// StreamOptions are the settings of event streams.
type StreamOptions struct {
	// Max is how many streams there may be at a time.
	Max int
	// Inactivity is how long clients are told to keep a stream that nobody looks at.
	// It is sent in whole seconds.
	Inactivity time.Duration
	// Heartbeat is how often a stream without events gets a comment, by which both
	// sides notice that the other has gone.
	Heartbeat time.Duration
	// Spread is the time over which clients are told of a change, so that they do
	// not all ask at once.
	Spread time.Duration
	// WriteTimeout is how long a client may take to accept an event before its
	// stream is ended.
	WriteTimeout time.Duration
}

// Streams tell clients to ask again when the flags change (OFREP's event
// streams). A stream has no queue: all that it can say is that something changed,
// and a client that is behind is told once, of the latest change.
type Streams struct {
	options StreamOptions
	now     func() time.Time
	// head and tail are what bulk answers say, around a client's token.
	head, tail string
	open       atomic.Int64

	mu     sync.Mutex
	latest change
	closed bool
	done   chan struct{}
}

// change is a change of the flags.
type change struct {
	at time.Time
	// number tells it from others of the same moment.
	number int
	// over is closed by the next change.
	over chan struct{}
}

// NewStreams returns Streams without a client.
func NewStreams(options StreamOptions, now func() time.Time) *Streams {
	return &Streams{
		options: options,
		now:     now,
		head:    `,"eventStreams":[{"type":"sse","endpoint":{"requestUri":"` + config.PathEvents,
		tail:    `"},"inactivityDelaySec":` + strconv.Itoa(max(1, int(options.Inactivity/time.Second))) + `}]`,
		latest:  change{over: make(chan struct{})},
		done:    make(chan struct{}),
	}
}

// Register registers the number of streams.
func (s *Streams) Register(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: config.MetricStreams,
		Help: "Event streams that are open.",
	}, func() float64 { return float64(s.open.Load()) }))
}

// Changed tells all clients that the flags have changed.
func (s *Streams) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.latest.over)
	s.latest = change{at: s.now(), number: s.latest.number + 1, over: make(chan struct{})}
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

func (s *Streams) current() change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// appendTo appends what a bulk answer says of event streams. The place is given
// without a host, because a proxy in front has another.
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

// serve sends events until the client or the service ends it.
func (s *Streams) serve(w http.ResponseWriter, r *http.Request) (status int) {
	if s.open.Add(1) > int64(s.options.Max) {
		s.open.Add(-1)
		return refuse(w, http.StatusTooManyRequests, tooManyStreams, time.Second)
	}
	defer s.open.Add(-1)
	header := w.Header()
	header["Content-Type"] = eventStream
	header["Cache-Control"] = noStore
	header["X-Accel-Buffering"] = noBuffering
	stream := stream{w: w, control: http.NewResponseController(w), timeout: s.options.WriteTimeout}
	// The server's limit on reading a request would end the stream.
	if stream.control.SetReadDeadline(time.Time{}) == nil {
		s.send(r.Context(), &stream)
	}
	return http.StatusOK
}

var (
	eventStream    = []string{"text/event-stream"}
	noStore        = []string{"no-store"}
	noBuffering    = []string{"no"}
	tooManyStreams = general("there are too many event streams; poll instead, or come again later")
)

// Reconnecting after a stream has ended is spread over this time: when an
// instance stops, all its clients come to the others.
const (
	reconnectAfter  = time.Second
	reconnectSpread = 4 * time.Second
)

// missable is how long ago a change may be that a client which connects now has
// not seen: it asked for the flags first and for the stream then.
const missable = time.Minute

func (s *Streams) send(ctx context.Context, to *stream) {
	latest := s.current()
	to.greet(reconnectAfter + rand.N(reconnectSpread))
	if !latest.at.IsZero() && s.now().Sub(latest.at) < missable {
		to.tell(latest)
	}
	heartbeat := time.NewTicker(s.options.Heartbeat)
	defer heartbeat.Stop()
	for to.err == nil {
		select {
		case <-ctx.Done():
			return
		case <-s.done:
			return
		case <-heartbeat.C:
			to.beat()
		case <-latest.over:
			if !s.pause(ctx) {
				return
			}
			latest = s.current()
			to.tell(latest)
		}
	}
}

// pause waits for this client's turn; it is false when the stream is over.
func (s *Streams) pause(ctx context.Context) bool {
	if s.options.Spread == 0 {
		return true
	}
	turn := time.NewTimer(rand.N(s.options.Spread))
	defer turn.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.done:
		return false
	case <-turn.C:
		return true
	}
}

// stream is one client's connection.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	// err ends the stream.
	err error
}

func (s *stream) greet(reconnect time.Duration) {
	s.write("retry: " + strconv.FormatInt(reconnect.Milliseconds(), 10) + "\n: connected\n\n")
}

func (s *stream) beat() { s.write(":\n\n") }

// tell sends the protocol's event. The time is when this instance began to serve
// the flags: an answer from before, from a cache on the way, is too old.
func (s *stream) tell(c change) {
	s.write("id: " + strconv.FormatInt(c.at.UnixMilli(), 10) + "-" + strconv.Itoa(c.number) + "\nevent: message\n" +
		`data: {"type":"refetchEvaluation","lastModified":` + strconv.FormatInt(c.at.Unix(), 10) + "}\n\n")
}

func (s *stream) write(text string) {
	if s.err != nil {
		return
	}
	if s.err = s.control.SetWriteDeadline(time.Now().Add(s.timeout)); s.err != nil {
		return
	}
	if _, s.err = s.w.Write([]byte(text)); s.err != nil {
		return
	}
	s.err = s.control.Flush()
}
