// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flagcache/flagcache/service/flags"
)

// Error codes of the protocol that are not an evaluation's outcome.
const (
	codeFlagNotFound   = "FLAG_NOT_FOUND"
	codeInvalidContext = "INVALID_CONTEXT"
	codeGeneral        = "GENERAL"
)

// Core answers the protocol, independently of HTTP. It is safe for concurrent
// use.
type Core struct {
	metrics *Metrics
	now     func() time.Time
	view    atomic.Pointer[view]
}

// NewCore returns a Core that has no flags yet and answers 503 until Serve.
func NewCore(metrics *Metrics, now func() time.Time) *Core {
	return &Core{metrics: metrics, now: now}
}

// Serve replaces the flags that are served.
func (c *Core) Serve(set *flags.Set) {
	c.view.Store(newView(set, c.metrics))
	c.metrics.keepOnly(set)
}

// Single answers an evaluation of one flag. The answer is appended to to.
func (c *Core) Single(to []byte, key string, body []byte) (status int, answer []byte) {
	view := c.view.Load()
	if view == nil {
		return http.StatusServiceUnavailable, append(to, notReady(key)...)
	}
	flag, known := view.set.Flag(key)
	attributes := view.set.Attributes()
	if known {
		attributes = flag.Attributes()
	}
	context := flags.NewContext()
	defer context.Release()
	if err := context.Read(string(body), attributes); err != nil {
		return http.StatusBadRequest, append(to, failure(key, codeInvalidContext, err.Error())...)
	}
	if !known {
		return http.StatusNotFound, append(to, failure(key, codeFlagNotFound, "there is no such flag")...)
	}
	outcome, err := flag.Evaluate(context, c.time(attributes))
	c.metrics.evaluated(view, outcome, err)
	return statusOf(outcome), append(to, view.answers[outcome.ID]...)
}

func statusOf(outcome *flags.Outcome) int {
	if outcome.ErrorCode != "" {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// time is the time for an evaluation, 0 where no rule asks for it.
func (c *Core) time(attributes *flags.Attributes) int64 {
	if !attributes.NeedTime() {
		return 0
	}
	return c.now().Unix()
}

// Bulk answers an evaluation of all flags, sorted by key. The answer is appended
// to to. The tag is a strong ETag in quotes; it is the same if and only if the
// answer is, on every instance. If ifNoneMatch names it, the status is 304 and
// the answer empty. Extra is put into the answer's object behind its own members;
// it starts with a comma unless it is empty.
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
		to = append(to, view.answers[outcome.ID]...)
		sum = sum.plus(view.digests[outcome.ID])
	}
	to = append(append(to, ']'), view.metadata...)
	if len(extra) > 0 {
		to, sum = append(to, extra...), sum.plus(digestOf(extra))
	}
	return append(to, '}'), sum
}

// digest is a part's share in an answer's entity tag, and the sum of all. A part
// names its flag and each flag is in an answer once, in a fixed order: so equal
// sums mean equal answers, but for chance, which is one in 2^128.
type digest struct{ high, low uint64 }

// digestOf is the beginning of the SHA-256 of a part.
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

// tag is the strong entity tag of the answer whose parts were added.
func (d digest) tag() string {
	var sum [16]byte
	binary.BigEndian.PutUint64(sum[:], d.high)
	binary.BigEndian.PutUint64(sum[8:], d.low)
	tag := make([]byte, 0, 24)
	tag = base64.RawURLEncoding.AppendEncode(append(tag, '"'), sum[:])
	return string(append(tag, '"'))
}

// matches says whether an If-None-Match header names the tag, by the weak
// comparison that HTTP prescribes for it.
func matches(ifNoneMatch, tag string) bool {
	for candidate := range strings.SplitSeq(ifNoneMatch, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}

// view is a set of flags with everything it can answer, encoded.
type view struct {
	set *flags.Set
	// answers and digests are by outcome ID.
	answers [][]byte
	digests []digest
	// metadata is what follows the flags in a bulk answer, and digest its digest.
	metadata []byte
	digest   digest
	counters []counter
}

func newView(set *flags.Set, metrics *Metrics) *view {
	v := &view{set: set, counters: metrics.counters(set)}
	for _, outcome := range set.Outcomes() {
		answer := encode(outcome)
		v.answers = append(v.answers, answer)
		v.digests = append(v.digests, digestOf(answer))
	}
	if metadata := set.Metadata(); metadata != nil {
		v.metadata = append([]byte(`,"metadata":`), metadata...)
		v.digest = digestOf(v.metadata)
	}
	return v
}

// success is the protocol's answer to an evaluation that came to something.
type success struct {
	Key      string          `json:"key"`
	Reason   flags.Reason    `json:"reason"`
	Variant  string          `json:"variant,omitempty"`
	Value    json.RawMessage `json:"value,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// failed is the protocol's answer to one that did not. The key is absent where
// no flag is meant.
type failed struct {
	Key          string          `json:"key,omitempty"`
	ErrorCode    string          `json:"errorCode"`
	ErrorDetails string          `json:"errorDetails"`
	Metadata     json.RawMessage `json:"metadata,omitempty"`
}

func encode(o *flags.Outcome) []byte {
	if o.ErrorCode != "" {
		return marshal(failed{o.Key, string(o.ErrorCode), o.ErrorDetails, o.Metadata})
	}
	return marshal(success{o.Key, o.Reason, o.Variant, o.Value, o.Metadata})
}

func failure(key, code, details string) []byte {
	return marshal(failed{Key: key, ErrorCode: code, ErrorDetails: details})
}

// notReady is the answer before there are flags.
func notReady(key string) []byte {
	return failure(key, codeGeneral, "no flags have been loaded yet")
}

// marshal encodes an answer. What it is given holds text and JSON that was
// encoded before, which cannot fail.
func marshal(answer any) []byte {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		return []byte(`{"errorCode":"GENERAL","errorDetails":"the answer could not be encoded"}`)
	}
	return bytes.TrimRight(encoded.Bytes(), "\n")
}
