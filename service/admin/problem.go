// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// problem is an error response (RFC 9457). Its type is about:blank: the status
// is its kind.
type problem struct {
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	RequestID string    `json:"requestId,omitempty"`
	Problems  []finding `json:"problems,omitempty"`
}

// finding is one problem with a definition, as reported by flag-service lint.
type finding struct {
	// Path is the path from the document's root.
	Path string `json:"path"`
	// Line and Column are the position in the definition, both counted from 1; 0 if
	// it is outside of the definition.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

func (p *problem) Error() string { return p.Detail }

func newProblem(status int, detail string) *problem {
	return &problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// problemOf returns the problem that is sent for an error. Database errors are
// only logged, not sent.
func problemOf(err error) *problem {
	var known *problem
	var tooLarge *postgres.TooLargeError
	var unusable *flags.DocumentError
	var body *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, postgres.ErrNotFound):
		return newProblem(http.StatusNotFound, "the environment or flag does not exist")
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusUnprocessableEntity, tooLarge.Error())
	case errors.As(err, &unusable):
		// Line and column would refer to a document that the client does not see.
		return newProblem(http.StatusUnprocessableEntity, "the environment would not be usable: "+unusable.Message)
	case errors.As(err, &body):
		return newProblem(http.StatusRequestEntityTooLarge, "the body exceeds 1 MiB, the limit for all flags of an environment")
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(http.StatusServiceUnavailable, "the database did not respond in time; check whether the change was made before retrying")
	default:
		return newProblem(http.StatusServiceUnavailable, "the database is unavailable; check whether the change was made before retrying")
	}
}

// invalid returns the problem for an invalid definition.
func invalid(detail string, findings []finding) *problem {
	p := newProblem(http.StatusUnprocessableEntity, detail)
	p.Problems = findings
	return p
}

// findings converts the problems of a document. Lines are counted from the line
// after the given one.
func findings(problems []flags.Problem, after int) []finding {
	var list []finding
	for _, p := range problems {
		f := finding{Path: p.Path, Message: p.Message}
		if p.Line > after {
			f.Line, f.Column = p.Line-after, p.Column
		}
		list = append(list, f)
	}
	return list
}

// writeProblem responds with a problem.
func writeProblem(w http.ResponseWriter, p *problem) {
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Del("ETag")
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", "1")
	}
	if p.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(p.Status)
	// A failed write means that the client has disconnected.
	_ = json.NewEncoder(w).Encode(p)
}

// Refusal returns the response to a request that cannot be read.
func Refusal(status int) (mediaType string, body []byte) {
	detail := "the request cannot be read"
	if status == http.StatusBadRequest {
		detail = "the request is not valid HTTP, or its path has an invalid escape: a percent sign must be encoded as %25"
	}
	// It has only strings and a number, so that encoding cannot fail.
	body, _ = json.Marshal(newProblem(status, detail))
	return "application/problem+json", body
}
