// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// Kinds of errors besides HTTP statuses.
const (
	kindRefused   = "connection refused"
	kindLost      = "connection lost"
	kindTimeout   = "timed out"
	kindNoAnswer  = "no answer"
	kindMalformed = "malformed answer"
	kindWrong     = "wrong answer"
	kindUnsent    = "not sent in time"
)

// judge returns the kind of error of an answer, "" if it is correct. tag is the
// request's If-None-Match.
func (t *target) judge(q Question, tag string, a answer) (kind string) {
	switch {
	case a.failure != nil:
		return failureKind(a.failure)
	case a.status == http.StatusNotModified && tag != "":
		return ""
	case a.status != http.StatusOK:
		return fmt.Sprintf("status %d", a.status)
	case !wellFormed(q, a.body):
		return kindMalformed
	case t.Answers != nil && !t.Answers.Right(q, a.revision, a.body):
		return kindWrong
	default:
		return ""
	}
}

func failureKind(err error) string {
	var network net.Error
	switch {
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return kindTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return kindRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return kindLost
	default:
		return kindNoAnswer
	}
}

// wellFormed reports whether the body of a 200 conforms to the protocol.
func wellFormed(q Question, body []byte) bool {
	if q.Flag == "" {
		var bulk struct{ Flags []evaluation }
		return json.Unmarshal(body, &bulk) == nil && bulk.Flags != nil
	}
	var single evaluation
	return json.Unmarshal(body, &single) == nil && single.Key == q.Flag && single.Reason != "" && single.ErrorCode == ""
}
