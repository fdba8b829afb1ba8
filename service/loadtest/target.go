// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/printable"
)

// maxResponse limits what is read of a response.
const maxResponse = 16 << 20

// target is the flag service under test.
type target struct {
	Options
	// bodies are the request bodies by user.
	bodies [][]byte
	// tags are the entity tags of the last bulk responses by user.
	tags []atomic.Pointer[string]
	// static and targeted are the keys of flags without and with a rule.
	static, targeted []string
}

func newTarget(o Options) *target {
	t := &target{Options: o}
	for _, user := range o.contexts() {
		t.bodies = append(t.bodies, fmt.Appendf(nil, `{"context":%s}`, user))
	}
	t.tags = make([]atomic.Pointer[string], len(t.bodies))
	return t
}

// newConnection returns a client with a single connection, which is kept. A pool of
// connections would use some of them for nearly all requests, and leave the others idle
// when their server terminates, or open more while it cannot be reached.
func (t *target) newConnection() *http.Client {
	return &http.Client{
		Timeout: t.Timeout,
		// Without a proxy, which would affect the measurements.
		Transport:     &http.Transport{MaxConnsPerHost: 1, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// evaluation is an item of a bulk response, or a single response.
type evaluation struct {
	Key       string `json:"key"`
	Reason    string `json:"reason"`
	ErrorCode string `json:"errorCode"`
}

// discover reads the keys of the flags. Flags that cannot be evaluated are left
// out.
func (t *target) discover(ctx context.Context, connection *http.Client) error {
	a := t.evaluate(ctx, connection, Question{}, "")
	if a.failure != nil {
		return fmt.Errorf("evaluating all flags: %w", a.failure)
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("evaluating all flags: the service answered with status %d", a.status)
	}
	var bulk struct{ Flags []evaluation }
	if err := json.Unmarshal(a.body, &bulk); err != nil {
		return fmt.Errorf("evaluating all flags: the response is not OFREP: %w", err)
	}
	for _, flag := range bulk.Flags {
		switch {
		case flag.ErrorCode != "":
		case flag.Reason == "STATIC", flag.Reason == "DISABLED":
			t.static = append(t.static, flag.Key)
		default:
			t.targeted = append(t.targeted, flag.Key)
		}
	}
	if len(t.static)+len(t.targeted) == 0 {
		return errors.New("the service has no flag that can be evaluated")
	}
	return nil
}

// answer is the response to a request.
type answer struct {
	// failure is the error if there is no response.
	failure  error
	status   int
	body     []byte
	revision string
	tag      string
}

// evaluate sends one request and reads the whole response.
func (t *target) evaluate(ctx context.Context, connection *http.Client, q Question, tag string) (a answer) {
	address := t.URL + config.PathEvaluate
	if q.Flag != "" {
		address += "/" + url.PathEscape(q.Flag)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(t.bodies[q.User]))
	if err != nil {
		return answer{failure: err}
	}
	maps.Copy(request.Header, t.Header)
	request.Header.Set("Content-Type", "application/json")
	if tag != "" {
		request.Header.Set("If-None-Match", tag)
	}
	response, err := connection.Do(request)
	if err != nil {
		return answer{failure: err}
	}
	defer func() { _ = response.Body.Close() }()
	a = answer{status: response.StatusCode, revision: revisionOf(response.Header), tag: response.Header.Get("ETag")}
	a.body, a.failure = io.ReadAll(io.LimitReader(response.Body, maxResponse))
	return a
}

// maxRevision is the maximum length of a revision in bytes; those of the operator have
// 63 at most.
const maxRevision = 64

// revisionOf returns the revision in the headers of a response, in a form that can be
// printed: the service under test may be any.
func revisionOf(header http.Header) string {
	return printable.Text(header.Get(config.HeaderRevision), maxRevision)
}

// Ask sends every question of a test once and calls answered with each answer.
// An invalid answer is an error; Options.Answers is ignored.
func Ask(ctx context.Context, o Options, answered func(q Question, body []byte)) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	o.Answers = nil
	t := newTarget(o)
	connection := t.newConnection()
	defer connection.CloseIdleConnections()
	if err := t.discover(ctx, connection); err != nil {
		return err
	}
	keys := append(append([]string{""}, t.static...), t.targeted...)
	for user := range t.bodies {
		for _, key := range keys {
			q := Question{Flag: key, User: user}
			a := t.evaluate(ctx, connection, q, "")
			if kind := t.judge(q, "", a); kind != "" {
				return fmt.Errorf("evaluating flag %q as user %d: %s", key, user, kind)
			}
			answered(q, a.body)
		}
	}
	return nil
}
