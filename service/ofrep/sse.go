// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

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

// serve sends events until the client disconnects, its token is revoked or the
// streams are closed.
func (s *Streams) serve(w http.ResponseWriter, r *http.Request, valid Validity) (status int) {
	if !s.Acquire() {
		return refuse(w, http.StatusTooManyRequests, tooManyStreams, time.Second)
	}
	defer s.Release()
	header := w.Header()
	header["Content-Type"] = eventStream
	header["Cache-Control"] = noStore
	header["X-Accel-Buffering"] = noBuffering
	stream := stream{
		w: w, control: http.NewResponseController(w), timeout: s.options.WriteTimeout, streams: s, lastEvent: r.Header.Get("Last-Event-Id"),
	}
	// The server's read timeout would end the stream.
	if stream.control.SetReadDeadline(time.Time{}) == nil {
		// Whatever ended the stream, the client reconnects.
		_ = s.Follow(r.Context(), &stream, valid)
	}
	return http.StatusOK
}

// missed reports whether a client that opens a stream may have missed the latest change.
// One that reconnects sends the ID of the last event that it got, from this instance or
// another one. If that was of the same flags or of more recent ones, it has missed
// nothing; a notification would make it go back.
func (s *Streams) missed(latest Change, lastEvent string) bool {
	if latest.At.IsZero() {
		return false
	}
	tag, _, _ := strings.Cut(lastEvent, idSeparator)
	known := demand{tag: parseConfigTag(tag)}
	if known.tag != (configTag{}) && known.tag.store == latest.To.tag().store {
		return known.tag.digest != latest.To.tag().digest && known.met(latest.To)
	}
	return s.now().Sub(latest.At) < missableAge
}

// stream is one client's connection.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	streams *Streams
	// lastEvent is the ID of the last event that a client which reconnects got.
	lastEvent string
}

// Begin greets the client, and notifies it of a change that it may have missed.
func (s *stream) Begin(latest Change) error {
	reconnect := reconnectAfter + rand.N(reconnectSpread)
	err := s.write("retry: " + strconv.FormatInt(reconnect.Milliseconds(), 10) + "\n: connected\n\n")
	if err == nil && s.streams.missed(latest, s.lastEvent) {
		err = s.Changed(latest)
	}
	return err
}

// Idle sends a comment.
func (s *stream) Idle() error { return s.write(":\n\n") }

// idSeparator separates the tag in the ID of an event from what makes the ID unique.
const idSeparator = "/"

// Changed sends the protocol's event, with which the client requests flags at least as
// recent, from any instance.
func (s *stream) Changed(c Change) error {
	id := strconv.FormatInt(c.At.UnixMilli(), 10) + "-" + strconv.Itoa(c.Number)
	modified, tag := c.At, ""
	if known := c.To.tag(); known != (configTag{}) {
		modified, tag = c.To.Modified, `"etag":`+strconv.Quote(known.String())+","
		id = strings.Trim(known.String(), `"`) + idSeparator + id
	}
	return s.write("id: " + id + "\nevent: message\n" +
		`data: {"type":"refetchEvaluation",` + tag + `"lastModified":` + strconv.FormatInt(modified.Unix(), 10) + "}\n\n")
}

func (s *stream) write(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
