// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
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

// Streams notify clients of changed flags (OFREP's event streams). A stream has
// no queue: its only event is that the flags changed, so a slow client is
// notified once, of the latest change.
type Streams struct {
	options StreamOptions
	now     func() time.Time
	// head and tail are the extra members of bulk responses before and after a
	// client's token.
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
	// number distinguishes changes at the same time.
	number int
	// to is the position of the flags after it, which may be unknown.
	to Position
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
		latest:  change{superseded: make(chan struct{})},
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
	s.latest = change{at: s.now(), number: s.latest.number + 1, to: to, superseded: make(chan struct{})}
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

// validity reports whether a stream may continue, and returns a channel that is
// closed when that may have changed.
type validity func() (valid bool, changed <-chan struct{})

// serve sends events until the client disconnects, its token is revoked or the
// streams are closed.
func (s *Streams) serve(w http.ResponseWriter, r *http.Request, valid validity) (status int) {
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
	// The server's read timeout would end the stream.
	if stream.control.SetReadDeadline(time.Time{}) == nil {
		s.send(r.Context(), &stream, valid, r.Header.Get("Last-Event-Id"))
	}
	return http.StatusOK
}

var (
	eventStream    = []string{"text/event-stream"}
	noStore        = []string{"no-store"}
	noBuffering    = []string{"no"}
	tooManyStreams = general("too many event streams; poll instead, or retry later")
)

// Reconnects after the end of a stream are spread over this time: when an
// instance stops, all its clients reconnect to the others.
const (
	reconnectAfter  = time.Second
	reconnectSpread = 4 * time.Second
)

// missableAge is the maximum age of a change that a new client may have missed,
// because it evaluated the flags before it opened the stream.
const missableAge = time.Minute

// missed reports whether a client that opens a stream may have missed the latest change.
// One that reconnects sends the ID of the last event that it got, from this instance or
// another one. If that was of the same flags or of more recent ones, it has missed
// nothing; a notification would make it go back.
func (s *Streams) missed(latest change, lastEvent string) bool {
	if latest.at.IsZero() {
		return false
	}
	tag, _, _ := strings.Cut(lastEvent, idSeparator)
	known := demand{tag: parseConfigTag(tag)}
	if known.tag != (configTag{}) && known.tag.store == latest.to.tag().store {
		return known.tag.digest != latest.to.tag().digest && known.met(latest.to)
	}
	return s.now().Sub(latest.at) < missableAge
}

func (s *Streams) send(ctx context.Context, to *stream, check validity, lastEvent string) {
	latest := s.current()
	to.greet(reconnectAfter + rand.N(reconnectSpread))
	if s.missed(latest, lastEvent) {
		to.notify(latest)
	}
	heartbeat := time.NewTicker(s.options.Heartbeat)
	defer heartbeat.Stop()
	valid, revoked := check()
	for to.err == nil && valid {
		select {
		case <-ctx.Done():
			return
		case <-s.done:
			return
		case <-revoked:
			valid, revoked = check()
		case <-heartbeat.C:
			to.beat()
		case <-latest.superseded:
			if !s.awaitTurn(ctx) {
				return
			}
			latest = s.current()
			to.notify(latest)
		}
	}
}

// awaitTurn delays the notification of this client. It returns false if the
// stream has ended.
func (s *Streams) awaitTurn(ctx context.Context) bool {
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
	// err is the error that ended the stream.
	err error
}

func (s *stream) greet(reconnect time.Duration) {
	s.write("retry: " + strconv.FormatInt(reconnect.Milliseconds(), 10) + "\n: connected\n\n")
}

func (s *stream) beat() { s.write(":\n\n") }

// idSeparator separates the tag in the ID of an event from what makes the ID unique.
const idSeparator = "/"

// notify sends the protocol's event, with which the client requests flags at least as
// recent, from any instance.
func (s *stream) notify(c change) {
	id := strconv.FormatInt(c.at.UnixMilli(), 10) + "-" + strconv.Itoa(c.number)
	modified, tag := c.at, ""
	if known := c.to.tag(); known != (configTag{}) {
		modified, tag = c.to.Modified, `"etag":`+strconv.Quote(known.String())+","
		id = strings.Trim(known.String(), `"`) + idSeparator + id
	}
	s.write("id: " + id + "\nevent: message\n" +
		`data: {"type":"refetchEvaluation",` + tag + `"lastModified":` + strconv.FormatInt(modified.Unix(), 10) + "}\n\n")
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
