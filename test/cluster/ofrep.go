// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/flagcache/flagcache/service/config"
)

// Endpoint is a flag service, as an application with an OFREP provider sees it.
type Endpoint struct {
	// URL is the base URL, what OFREP_ENDPOINT holds.
	URL string
	// HTTP sends the requests.
	HTTP *http.Client
}

// Evaluation is OFREP's answer about one flag.
type Evaluation struct {
	Key     string         `json:"key"`
	Value   any            `json:"value,omitempty"`
	Variant string         `json:"variant,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Code    string         `json:"errorCode,omitempty"`
	Details string         `json:"errorDetails,omitempty"`
	Meta    map[string]any `json:"metadata,omitempty"`
	// Revision of the flag service that answered.
	Revision string `json:"-"`
}

// Context is what an application tells of its user, with targetingKey among it.
type Context map[string]any

// Evaluate asks for one flag. Any answer but an evaluation is an error.
func (e Endpoint) Evaluate(ctx context.Context, flag string, about Context) (Evaluation, error) {
	var evaluation Evaluation
	revision, err := e.post(ctx, config.PathEvaluate+"/"+url.PathEscape(flag), about, &evaluation)
	if err != nil {
		return Evaluation{}, fmt.Errorf("evaluating %s: %w", flag, err)
	}
	evaluation.Revision = revision
	return evaluation, nil
}

// EvaluateAll asks for all flags at once.
func (e Endpoint) EvaluateAll(ctx context.Context, about Context) ([]Evaluation, error) {
	var bulk struct {
		Flags []Evaluation `json:"flags"`
	}
	if _, err := e.post(ctx, config.PathEvaluate, about, &bulk); err != nil {
		return nil, fmt.Errorf("evaluating all flags: %w", err)
	}
	return bulk.Flags, nil
}

// post sends a context, reads the answer into it, and returns the revision that
// answered.
func (e Endpoint) post(ctx context.Context, path string, about Context, into any) (revision string, err error) {
	if about == nil {
		about = Context{}
	}
	body, err := json.Marshal(map[string]any{"context": about})
	if err != nil {
		return "", fmt.Errorf("writing the context: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.HTTP.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the flag service answers %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return "", fmt.Errorf("understanding the answer: %w", err)
	}
	return response.Header.Get(config.HeaderRevision), nil
}
