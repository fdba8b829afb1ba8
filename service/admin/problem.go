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

// problem is an answer other than success (RFC 9457). Its type is about:blank: the
// status says what kind it is.
type problem struct {
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	RequestID string    `json:"requestId,omitempty"`
	Problems  []finding `json:"problems,omitempty"`
}

// finding is one thing that is wrong with a definition, as flag-service lint says
// it.
type finding struct {
	// Path leads from the document's root to the place.
	Path string `json:"path"`
	// Line and Column are of the definition, both from 1; 0 where it is not in it.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

func (p *problem) Error() string { return p.Detail }

func refuse(status int, detail string) *problem {
	return &problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// problemOf says what a client is told of an error. What is the database's
// business is for the log, and is not told.
func problemOf(err error) *problem {
	var told *problem
	var tooLarge *postgres.TooLargeError
	var body *http.MaxBytesError
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, postgres.ErrNotFound):
		return refuse(http.StatusNotFound, "there is no such environment or flag")
	case errors.As(err, &tooLarge):
		return refuse(http.StatusUnprocessableEntity, tooLarge.Error())
	case errors.As(err, &body):
		return refuse(http.StatusRequestEntityTooLarge, "a body may have as many bytes as all flags of an environment together, 1 MiB")
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(http.StatusServiceUnavailable, "the database did not answer in time; look whether a change was made before trying again")
	default:
		return refuse(http.StatusServiceUnavailable, "the database cannot be used now; look whether a change was made before trying again")
	}
}

// unfit refuses a definition.
func unfit(detail string, findings []finding) *problem {
	p := refuse(http.StatusUnprocessableEntity, detail)
	p.Problems = findings
	return p
}

// findings are the problems of a document as a client is told them. Lines are
// counted from after a line of the document.
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

// writeProblem ends a call with a problem.
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
	// A client that has gone away needs no answer.
	_ = json.NewEncoder(w).Encode(p)
}
