// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors of reading a Secret.
var (
	ErrSecretNotFound = errors.New("kubernetes secret not found")
	ErrSecretType     = errors.New("only opaque secrets can be used")
)

var (
	errNotFound         = errors.New("resource not found")
	errTerminal         = errors.New("resource is in terminal condition")
	errReadOnlyNotFound = errors.New("read-only resource not found")
	errAdoptedNotFound  = errors.New("adopted resource not found")
)

// requestID takes the place of a request ID of AWS, which is random.
const requestID = "00000000-0000-0000-0000-000000000000"

// Error is an error of AWS.
type Error struct {
	Action, Code, Message string
}

// Error returns what ACK shows as the reason of ACK.ResourceSynced.
func (e Error) Error() string {
	attempts := ""
	if e.throttled() {
		attempts = ", exceeded maximum number of attempts, 3"
	}
	return fmt.Sprintf("operation error ElastiCache: %s%s, https response error StatusCode: %d, RequestID: %s, %s", e.Action, attempts, e.status(), requestID, e.text())
}

// text returns what ACK shows as a message. The SDK has types for the errors that are documented for
// an action, and a generic type for those that are common to all actions.
func (e Error) text() string {
	if slices.Contains(commonCodes, e.Code) {
		return fmt.Sprintf("api error %s: %s", e.Code, e.Message)
	}
	return e.Code + ": " + e.Message
}

var (
	throttlingCodes = []string{"Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalFailure", "ServiceUnavailable"}
	commonCodes     = append([]string{"AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "ExpiredToken"}, throttlingCodes...)
)

// throttled reports whether the SDK retries a call.
func (e Error) throttled() bool { return slices.Contains(throttlingCodes, e.Code) }

func (e Error) status() int {
	switch e.Code {
	case "AccessDenied", "AccessDeniedException", "ExpiredToken", "UnrecognizedClientException":
		return 403
	case "InternalFailure":
		return 500
	case "ServiceUnavailable":
		return 503
	}
	if strings.Contains(e.Code, "NotFound") {
		return 404
	}
	return 400
}

// requeueError schedules the next sync.
type requeueError struct {
	cause error
	// after is when, zero for the back-off of a failure.
	after time.Duration
}

func (e requeueError) Error() string {
	if e.cause == nil {
		return ""
	}
	return e.cause.Error()
}

func (e requeueError) Unwrap() error { return e.cause }

// reason is why a sync is repeated, in ACK's words.
type reason string

func (r reason) Error() string { return string(r) }

// wait schedules the next sync after a poll interval.
func (s *session) wait(why string) error {
	return requeueError{cause: reason(why), after: s.Timing.Poll}
}

// requeueAfter returns when an object is synced again after the outcome of a sync, zero if not, and
// whether the delay is the back-off.
func requeueAfter(err error, t Timing) (after time.Duration, retried bool) {
	var requeue requeueError
	switch {
	case err == nil || errors.Is(err, errTerminal):
		return 0, false
	case errors.As(err, &requeue) && requeue.after > 0:
		return requeue.after, false
	case errors.As(err, &requeue) && errors.Is(requeue.cause, errSynced):
		return t.Resync, false
	default:
		return 0, true
	}
}

// errSynced is the outcome of a sync of an object that is synced.
var errSynced = errors.New("synced")
