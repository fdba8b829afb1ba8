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

// Endpoint is an OFREP client of a flag service.
type Endpoint struct {
	// URL is the base URL, the value of OFREP_ENDPOINT.
	URL string
	// HTTP is the client for requests.
	HTTP *http.Client
}

// Evaluation is the OFREP response for one flag.
type Evaluation struct {
	Key     string         `json:"key"`
	Value   any            `json:"value,omitempty"`
	Variant string         `json:"variant,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Code    string         `json:"errorCode,omitempty"`
	Details string         `json:"errorDetails,omitempty"`
	Meta    map[string]any `json:"metadata,omitempty"`
	// Revision is the revision of the flag service that responded.
	Revision string `json:"-"`
}

// Context is the evaluation context of a user; targetingKey is one of its keys.
type Context map[string]any

// Evaluate evaluates one flag. Any response other than an evaluation is an error.
func (e Endpoint) Evaluate(ctx context.Context, flag string, user Context) (Evaluation, error) {
	var evaluation Evaluation
	revision, err := e.post(ctx, config.PathEvaluate+"/"+url.PathEscape(flag), user, &evaluation)
	if err != nil {
		return Evaluation{}, fmt.Errorf("evaluating %s: %w", flag, err)
	}
	evaluation.Revision = revision
	return evaluation, nil
}

// EvaluateAll evaluates all flags in one request.
func (e Endpoint) EvaluateAll(ctx context.Context, user Context) ([]Evaluation, error) {
	var bulk struct {
		Flags []Evaluation `json:"flags"`
	}
	if _, err := e.post(ctx, config.PathEvaluate, user, &bulk); err != nil {
		return nil, fmt.Errorf("evaluating all flags: %w", err)
	}
	return bulk.Flags, nil
}

// post sends an evaluation context, decodes the response and returns the revision that
// responded.
func (e Endpoint) post(ctx context.Context, path string, user Context, into any) (revision string, err error) {
	if user == nil {
		user = Context{}
	}
	body, err := json.Marshal(map[string]any{"context": user})
	if err != nil {
		return "", fmt.Errorf("encoding the context: %w", err)
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
		return "", fmt.Errorf("reading the response: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the flag service responded %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return "", fmt.Errorf("parsing the response: %w", err)
	}
	return response.Header.Get(config.HeaderRevision), nil
}
