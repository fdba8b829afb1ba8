// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagcache/flagcache/service/flags"
)

// Error codes of the protocol that are not outcomes of an evaluation.
const (
	codeFlagNotFound   = "FLAG_NOT_FOUND"
	codeInvalidContext = "INVALID_CONTEXT"
	codeGeneral        = "GENERAL"
)

// DetailsRejected are the details of the error for a flag whose definition was
// rejected.
const DetailsRejected = "the flag exists but its definition was rejected as invalid"

// Core implements the protocol independently of HTTP. It is safe for concurrent
// use.
type Core struct {
	metrics *Metrics
	now     func() time.Time
	view    atomic.Pointer[view]

	mu       sync.Mutex
	position Position
	// moved is closed and replaced when position changes.
	moved chan struct{}
}

// NewCore returns a Core without flags. It answers 503 until Serve is called.
func NewCore(metrics *Metrics, now func() time.Time) *Core {
	return &Core{metrics: metrics, now: now, moved: make(chan struct{})}
}

// Serve replaces the served flags.
func (c *Core) Serve(set *flags.Set) {
	c.view.Store(newView(set, c.metrics))
	c.metrics.keepOnly(set)
}

// Served returns the served flags, nil before Serve is called.
func (c *Core) Served() *flags.Set {
	if view := c.view.Load(); view != nil {
		return view.set
	}
	return nil
}

// Place records the position of the served flags. It is called after Serve, so that
// responses are never from older flags than the position.
func (c *Core) Place(position Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if position == c.position {
		return
	}
	c.position = position
	close(c.moved)
	c.moved = make(chan struct{})
}

// Position returns the position of the served flags, and a channel that is closed when it
// changes.
func (c *Core) Position() (position Position, moved <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.position, c.moved
}

// Single evaluates one flag. The response is appended to to.
func (c *Core) Single(to []byte, key string, body []byte) (status int, answer []byte) {
	view, outcome, err := c.evaluate(key, body)
	switch {
	case err == nil:
		return statusOf(outcome), view.append(to, outcome)
	case errors.Is(err, ErrNoFlags):
		return http.StatusServiceUnavailable, append(to, notReady(key)...)
	case errors.Is(err, ErrRejected):
		return http.StatusBadRequest, append(to, failure(key, codeGeneral, DetailsRejected)...)
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound, append(to, failure(key, codeFlagNotFound, err.Error())...)
	default:
		return http.StatusBadRequest, append(to, failure(key, codeInvalidContext, err.Error())...)
	}
}

// maxExtra is the maximum size of headers and of the extra members of a bulk response.
const maxExtra = 4 << 10

// MaxResponse returns the maximum size of the response for a flag, or for all with an
// empty key.
func (c *Core) MaxResponse(key string) int64 {
	view := c.view.Load()
	switch {
	case view == nil:
		return maxExtra
	case key == "":
		return int64(view.maxBulk) + maxExtra
	default:
		return int64(view.maxSingle) + maxExtra
	}
}

func statusOf(outcome *flags.Outcome) int {
	if outcome.ErrorCode != "" {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// time returns the time for an evaluation, 0 if no rule reads it.
func (c *Core) time(attributes *flags.Attributes) int64 {
	if !attributes.NeedTime() {
		return 0
	}
	return c.now().Unix()
}

// Bulk evaluates all flags, sorted by key. The response is appended to to. The
// tag is a strong ETag in quotes; on all instances it is equal if and only if
// the response is. If ifNoneMatch contains it, the status is 304 and the
// response empty. extra is appended to the members of the response's object; it
// starts with a comma unless it is empty.
func (c *Core) Bulk(to, body, extra []byte, ifNoneMatch string) (status int, answer []byte, tag string) {
	view := c.view.Load()
	if view == nil {
		return http.StatusServiceUnavailable, append(to, notReady("")...), ""
	}
	context := flags.NewContext()
	defer context.Release()
	if err := context.Read(string(body), view.set.Attributes()); err != nil {
		return http.StatusBadRequest, append(to, failure("", codeInvalidContext, err.Error())...), ""
	}
	answer, sum := c.appendBulk(to, view, context, extra)
	tag = sum.tag()
	if matches(ifNoneMatch, tag) {
		return http.StatusNotModified, to, tag
	}
	return http.StatusOK, answer, tag
}

func (c *Core) appendBulk(to []byte, view *view, context *flags.Context, extra []byte) ([]byte, digest) {
	now, sum := c.time(view.set.Attributes()), view.digest
	to = append(to, `{"flags":[`...)
	for i, flag := range view.set.Flags() {
		if i > 0 {
			to = append(to, ',')
		}
		outcome, err := flag.Evaluate(context, now)
		c.metrics.evaluated(view, outcome, err)
		to = view.append(to, outcome)
		sum = sum.plus(view.digests[outcome.ID])
	}
	to = append(append(to, ']'), view.metadata...)
	if len(extra) > 0 {
		to, sum = append(to, extra...), sum.plus(digestOf(extra))
	}
	return append(to, '}'), sum
}

// digest is the hash of a part of a response, and the sum of all, which is the
// response's entity tag. A part contains its flag's key, and each flag is in a
// response once, in a fixed order: so equal sums mean equal responses, up to a
// probability of 2^-128.
type digest struct{ high, low uint64 }

// digestOf returns the first 128 bits of the SHA-256 of a part.
func digestOf(part []byte) digest {
	sum := sha256.Sum256(part)
	return digest{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// plus adds modulo 2^128.
func (d digest) plus(other digest) digest {
	low, carry := bits.Add64(d.low, other.low, 0)
	high, _ := bits.Add64(d.high, other.high, carry)
	return digest{high, low}
}

// tag returns the strong entity tag of the response whose parts were added.
func (d digest) tag() string {
	var sum [16]byte
	binary.BigEndian.PutUint64(sum[:], d.high)
	binary.BigEndian.PutUint64(sum[8:], d.low)
	tag := make([]byte, 0, 24)
	tag = base64.RawURLEncoding.AppendEncode(append(tag, '"'), sum[:])
	return string(append(tag, '"'))
}

// matches reports whether an If-None-Match header contains the tag, by the weak
// comparison that HTTP requires.
func matches(ifNoneMatch, tag string) bool {
	for candidate := range strings.SplitSeq(ifNoneMatch, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}

// view is a set of flags with all its possible outcomes encoded.
type view struct {
	set *flags.Set
	// responses and digests are indexed by outcome ID. A response has everything but
	// the metadata, which the outcomes of a flag and most flags share, and the end.
	responses [][]byte
	digests   []digest
	// metadata follows the flags in a bulk response; digest is its digest.
	metadata []byte
	digest   digest
	counters []counter
	// maxSingle and maxBulk are the maximum sizes of responses, without the extra
	// members of a bulk response.
	maxSingle, maxBulk int
}

func newView(set *flags.Set, metrics *Metrics) *view {
	v := &view{set: set, counters: metrics.counters(set)}
	metadata := metadataDigests{}
	for _, outcome := range set.Outcomes() {
		answer := encode(outcome)
		v.responses = append(v.responses, answer)
		v.digests = append(v.digests, digestOf(append(answer, metadata.of(outcome.Metadata)...)))
	}
	v.measure()
	if metadata := set.Metadata(); metadata != nil {
		v.metadata = append([]byte(`,"metadata":`), metadata...)
		v.digest = digestOf(v.metadata)
	}
	return v
}

// measure sets the maximum sizes.
func (v *view) measure() {
	largest := map[string]int{}
	for _, outcome := range v.set.Outcomes() {
		size := len(v.responses[outcome.ID]) + len(`,"metadata":`) + len(outcome.Metadata) + len("},")
		largest[outcome.Key] = max(largest[outcome.Key], size)
	}
	for _, size := range largest {
		v.maxSingle = max(v.maxSingle, size)
		v.maxBulk += size
	}
	v.maxBulk += len(`{"flags":[],"metadata":}`) + len(v.set.Metadata())
}

// append appends the response for an outcome.
func (v *view) append(to []byte, outcome *flags.Outcome) []byte {
	to = append(to, v.responses[outcome.ID]...)
	if outcome.Metadata != nil {
		to = append(append(to, `,"metadata":`...), outcome.Metadata...)
	}
	return append(to, '}')
}

// metadataDigests are the digests of metadata by its first byte in memory, so
// that metadata which many outcomes share is hashed once.
type metadataDigests map[*byte][sha256.Size]byte

func (m metadataDigests) of(metadata json.RawMessage) []byte {
	if metadata == nil {
		return nil
	}
	sum, known := m[&metadata[0]]
	if !known {
		sum = sha256.Sum256(metadata)
		m[&metadata[0]] = sum
	}
	return sum[:]
}

// success is the protocol's response to a successful evaluation, without
// metadata.
type success struct {
	Key     string          `json:"key"`
	Reason  flags.Reason    `json:"reason"`
	Variant string          `json:"variant,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
}

// failed is the protocol's response to a failed evaluation. The key is absent
// if the error does not concern a single flag.
type failed struct {
	Key          string `json:"key,omitempty"`
	ErrorCode    string `json:"errorCode"`
	ErrorDetails string `json:"errorDetails"`
}

// encode returns the response for an outcome without its metadata and its last
// byte, which is a brace.
func encode(o *flags.Outcome) []byte {
	var answer []byte
	if o.ErrorCode != "" {
		answer = marshal(failed{o.Key, string(o.ErrorCode), o.ErrorDetails})
	} else {
		answer = marshal(success{o.Key, o.Reason, o.Variant, o.Value})
	}
	return bytes.Clone(answer[:len(answer)-1])
}

func failure(key, code, details string) []byte {
	return marshal(failed{Key: key, ErrorCode: code, ErrorDetails: details})
}

// notReady returns the response before any flags have been loaded.
func notReady(key string) []byte {
	return failure(key, codeGeneral, ErrNoFlags.Error())
}

// marshal encodes a response. It contains only strings and encoded JSON, so
// encoding cannot fail.
func marshal(answer any) []byte {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		return []byte(`{"errorCode":"GENERAL","errorDetails":"the response could not be encoded"}`)
	}
	return bytes.TrimRight(encoded.Bytes(), "\n")
}
