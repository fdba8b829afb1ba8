// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/flagcache/flagcache/test/awsplayer/query"
)

const (
	// maxRequest bounds the size of a request in bytes.
	maxRequest = 256 << 10
	// requestLimit bounds the time until a request was received.
	requestLimit = 30 * time.Second
)

// service is an API of AWS.
type service struct {
	version, namespace string
	actions            map[string]action
}

// services are the APIs that are played; their actions differ in name.
var services = []service{
	{version: "2015-02-02", namespace: "http://elasticache.amazonaws.com/doc/2015-02-02/", actions: elastiCacheActions},
	{version: "2011-06-15", namespace: "https://sts.amazonaws.com/doc/2011-06-15/", actions: stsActions},
}

// action answers requests for one action of an API.
type action func(a *account, form url.Values) (any, error)

// act is the action that a function plays, with the parameters that it has regard to.
// The account is locked during the call.
func act[In, Out any](run func(a *account, in *In) (*Out, error), supported ...string) action {
	return func(a *account, form url.Values) (any, error) {
		in := new(In)
		if err := query.Decode(form, in); err != nil {
			return nil, invalidValue("%v", err)
		}
		for _, name := range query.Set(in) {
			if !slices.Contains(supported, name) {
				return nil, invalidValue("awsplayer does not support the parameter %s of %s.", name, form.Get("Action"))
			}
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.settleAll()
		return run(a, in)
	}
}

// api is the HTTP endpoint of all services.
type api struct{ account *account }

func (s *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err != nil {
		respondError(w, services[0].namespace, err)
		return
	}
	from, namespace, err := find(form)
	var out any
	if err == nil {
		err = s.account.checkSignature(r.Header.Get("Authorization"))
	}
	if err == nil {
		out, err = s.account.perform(r.Context(), from, form)
	}
	if r.Context().Err() != nil {
		return // the client has disconnected, or the player ends
	}
	if err != nil {
		respondError(w, namespace, err)
		return
	}
	id := requestID()
	body, err := query.Encode(form.Get("Action"), namespace, out, id)
	if err != nil {
		respondError(w, namespace, fmt.Errorf("encoding the response of %s: %w", form.Get("Action"), err))
		return
	}
	respond(w, http.StatusOK, id, body)
}

func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		return nil, failure("InvalidAction", "awsplayer supports requests by POST only.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, failure("RequestEntityTooLarge", "The request has more than %d bytes.", maxRequest)
	}
	if err != nil {
		return nil, failure("IncompleteSignature", "The request could not be read.")
	}
	form, err := url.ParseQuery(string(bytes.TrimSpace(body)))
	if err != nil {
		return nil, failure("MalformedQueryString", "The request is not a form.")
	}
	return form, nil
}

// checkSignature checks that a request is signed, and for the account's region if it is
// one to ElastiCache. The signature itself is not verified. The scope is
// KEY/DATE/REGION/SERVICE/aws4_request.
func (a *account) checkSignature(authorization string) error {
	_, credential, signed := strings.Cut(authorization, "Credential=")
	scope := strings.Split(credential, "/")
	if !signed || len(scope) < 5 {
		return failure("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if scope[3] == "elasticache" {
		a.region = cmp.Or(a.region, scope[2])
	}
	if scope[3] == "elasticache" && scope[2] != a.region {
		return failure("SignatureDoesNotMatch", "Credential should be scoped to a valid region.")
	}
	return nil
}

// find returns the action of a request and the namespace of its API.
func find(form url.Values) (action, string, error) {
	name, version := form.Get("Action"), form.Get("Version")
	for _, s := range services {
		if run, ok := s.actions[name]; ok && s.version == version {
			return run, s.namespace, nil
		}
	}
	return nil, services[0].namespace, failure("InvalidAction", "Could not find operation %.100s for version %.20s", name, version)
}

// perform performs an action, unless an injected fault fails it, and records the call.
func (a *account) perform(ctx context.Context, run action, form url.Values) (any, error) {
	call := newCall(form)
	out, err := any(nil), a.journal.disturb(ctx, call)
	if err == nil {
		out, err = run(a, form)
	}
	var refused smithy.APIError
	if errors.As(err, &refused) {
		call.Code = refused.ErrorCode()
	} else if err != nil {
		call.Code = "InternalFailure"
		a.log.Error(err, "Performing a call failed", "action", call.Action, "id", call.ID)
	}
	a.journal.record(call)
	return out, err
}

func respondError(w http.ResponseWriter, namespace string, err error) {
	code, message := "InternalFailure", "The request processing has failed because of an unknown error, exception or failure."
	var refused smithy.APIError
	if errors.As(err, &refused) {
		code, message = refused.ErrorCode(), refused.ErrorMessage()
	}
	status, fault, id := statusOf(code), "Sender", requestID()
	if status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	body, err := query.EncodeError(namespace, fault, code, message, id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	respond(w, status, id, body)
}

func respond(w http.ResponseWriter, status int, requestID string, body []byte) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", requestID)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}

// requestID returns a new request ID, in the format of AWS.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
