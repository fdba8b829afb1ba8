// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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

// Single answers an evaluation of one flag. The answer must not be changed.
func (c *Core) Single(key string, body []byte) (status int, answer []byte) {
	view := c.view.Load()
	if view == nil {
		return http.StatusServiceUnavailable, notReady(key)
	}
	raw, err := contextOf(body)
	if err != nil {
		return http.StatusBadRequest, failure(key, codeInvalidContext, err.Error())
	}
	flag, ok := view.set.Flag(key)
	if !ok {
		return http.StatusNotFound, failure(key, codeFlagNotFound, "there is no such flag")
	}
	var context flags.Context
	if !flag.IsStatic() {
		if context, err = flags.ParseContext(raw); err != nil {
			return http.StatusBadRequest, failure(key, codeInvalidContext, err.Error())
		}
	}
	outcome, err := flag.Evaluate(context, c.now().Unix())
	c.metrics.evaluated(view, outcome, err)
	if outcome.ErrorCode != "" {
		return http.StatusBadRequest, view.answers[outcome.ID]
	}
	return http.StatusOK, view.answers[outcome.ID]
}

// Bulk answers an evaluation of all flags, sorted by key. The answer is appended
// to to. The tag is a strong ETag in quotes; it is the same if and only if the
// answer is, on every instance. If ifNoneMatch names it, the status is 304 and
// the answer empty. Extra is put into the answer's object behind its own members;
// it starts with a comma unless it is empty.
func (c *Core) Bulk(to, body, extra []byte, ifNoneMatch string) (status int, answer []byte, tag string) {
	view := c.view.Load()
	if view == nil {
		return http.StatusServiceUnavailable, notReady(""), ""
	}
	raw, err := contextOf(body)
	if err != nil {
		return http.StatusBadRequest, failure("", codeInvalidContext, err.Error()), ""
	}
	context, err := flags.ParseContext(raw)
	if err != nil {
		return http.StatusBadRequest, failure("", codeInvalidContext, err.Error()), ""
	}
	answer = c.appendBulk(to, view, context, extra)
	tag = tagOf(answer[len(to):])
	if matches(ifNoneMatch, tag) {
		return http.StatusNotModified, to, tag
	}
	return http.StatusOK, answer, tag
}

func (c *Core) appendBulk(to []byte, view *view, context flags.Context, extra []byte) []byte {
	now := c.now().Unix()
	to = append(to, `{"flags":[`...)
	for i, flag := range view.set.Flags() {
		if i > 0 {
			to = append(to, ',')
		}
		outcome, err := flag.Evaluate(context, now)
		c.metrics.evaluated(view, outcome, err)
		to = append(to, view.answers[outcome.ID]...)
	}
	to = append(to, ']')
	if metadata := view.set.Metadata(); metadata != nil {
		to = append(append(to, `,"metadata":`...), metadata...)
	}
	return append(append(to, extra...), '}')
}

// tagOf is a strong entity tag for an answer.
func tagOf(answer []byte) string {
	sum := sha256.Sum256(answer)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
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

// contextOf returns the context in a request's body, nil for none.
func contextOf(body []byte) (json.RawMessage, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var request struct {
		Context json.RawMessage `json:"context"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("the body must be a JSON object with a context: %w", err)
	}
	context := request.Context
	if len(context) > 0 && context[0] != '{' && !bytes.Equal(context, []byte("null")) {
		return nil, errors.New("the context is not an object")
	}
	return context, nil
}

// view is a set of flags with everything it can answer, encoded.
type view struct {
	set *flags.Set
	// answers are by outcome ID.
	answers  [][]byte
	counters []counter
}

func newView(set *flags.Set, metrics *Metrics) *view {
	v := &view{set: set, answers: make([][]byte, len(set.Outcomes()))}
	for id, outcome := range set.Outcomes() {
		v.answers[id] = encode(outcome)
	}
	v.counters = metrics.counters(set)
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
