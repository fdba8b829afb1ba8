// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// environmentItem is an environment in a list.
type environmentItem struct {
	Name      string    `json:"name"`
	Version   int64     `json:"version"`
	UpdatedAt time.Time `json:"updatedAt"`
}

func (a *api) listEnvironments(c *call) error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	stored, err := a.Store.Environments(c.r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	page := struct {
		Environments []environmentItem `json:"environments"`
		Next         string            `json:"next,omitempty"`
	}{Environments: []environmentItem{}}
	for _, e := range stored[:min(limit, len(stored))] {
		page.Environments = append(page.Environments, environmentItem{Name: e.Name, Version: e.Version.Number, UpdatedAt: e.UpdatedAt.UTC()})
	}
	if len(stored) > limit {
		page.Next = stored[limit-1].Name
	}
	return c.writeJSON(http.StatusOK, page)
}

// sharedParts are the parts that the flags of an environment share, as in a
// flags file.
type sharedParts struct {
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	Evaluators json.RawMessage `json:"$evaluators,omitempty"`
}

func (a *api) readEnvironment(c *call) error {
	environment, err := c.environment()
	if err != nil {
		return err
	}
	stored, err := a.Store.ReadEnvironment(c.r.Context(), environment)
	if err != nil {
		return err
	}
	return c.writeEnvironment(stored)
}

// writeEnvironment responds with the shared parts of an environment. Their ETag
// also changes with every change of a flag, because a rule may depend on an
// evaluator.
func (c *call) writeEnvironment(e postgres.Environment) error {
	c.w.Header().Set("ETag", etag(e.Version))
	return c.writeJSON(http.StatusOK, sharedParts{Metadata: e.Metadata, Evaluators: e.Evaluators})
}

// replaceEnvironment replaces the shared parts with the body. It is rejected if
// it makes a valid flag invalid.
func (a *api) replaceEnvironment(c *call) error {
	environment, err := c.environment()
	if err != nil {
		return err
	}
	data, err := c.body("application/json")
	if err != nil {
		return err
	}
	var requested sharedParts
	if err := decode(data, &requested, "metadata", "$evaluators"); err != nil {
		return err
	}
	// Only an existing environment can be changed.
	if _, err := a.Store.ReadEnvironment(c.r.Context(), environment); err != nil {
		return err
	}
	stored, err := a.Store.EditEnvironment(c.r.Context(), c.author(), environment,
		func(current postgres.Environment, document []byte) (evaluators, metadata []byte, err error) {
			if err := checkPreconditions(c.r.Header, etag(current.Version)); err != nil {
				return nil, nil, err
			}
			return requested.validate(document)
		})
	if err != nil {
		return err
	}
	a.publish(c, environment, "configure", "")
	return c.writeEnvironment(stored)
}

// validate returns the parts in the form to be stored, null being none, if all
// flags of a document remain valid with them.
func (s sharedParts) validate(document []byte) (evaluators, metadata []byte, err error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(document, &members); err != nil {
		return nil, nil, fmt.Errorf("reading the flags of the environment: %w", err)
	}
	evaluators = setMember(members, "$evaluators", s.Evaluators)
	metadata = setMember(members, "metadata", s.Metadata)
	changed, err := json.Marshal(members)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the flags of the environment: %w", err)
	}
	after, is, err := flags.Parse(changed)
	if err != nil {
		return nil, nil, err
	}
	before, was, err := flags.Parse(document)
	if err != nil {
		// An unusable environment may be repaired.
		return evaluators, metadata, nil
	}
	worse := newProblems(was, is)
	if len(worse) == 0 || len(was) > flags.MaxProblems {
		// Those that are not listed cannot be compared.
		worse = lost(before, after)
	}
	if len(worse) > 0 {
		// Lines would refer to a document that the client does not see.
		return nil, nil, invalid("the environment has problems", findings(worse, len(changed)))
	}
	return evaluators, metadata, nil
}

// setMember sets a member of an object and returns it in compact form, or
// removes it for null.
func setMember(members map[string]json.RawMessage, name string, value json.RawMessage) []byte {
	var compact bytes.Buffer
	if value == nil || json.Compact(&compact, value) != nil || compact.String() == "null" {
		delete(members, name)
		return nil
	}
	members[name] = compact.Bytes()
	return compact.Bytes()
}

// auditItem is a change in a list.
type auditItem struct {
	ID        int64           `json:"id"`
	At        time.Time       `json:"at"`
	Action    string          `json:"action"`
	Key       string          `json:"key,omitempty"`
	Actor     string          `json:"actor"`
	RequestID string          `json:"requestId,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
}

func (a *api) listAudit(c *call) error {
	environment, err := c.environment()
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	query := c.r.URL.Query()
	var before int64
	if text := query.Get("before"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			return newProblem(http.StatusBadRequest, "before must be a value of next")
		}
	}
	key := query.Get("key")
	if key != "" {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	entries, more, err := a.Store.Audit(c.r.Context(), environment, key, before, limit)
	if err != nil {
		return err
	}
	page := struct {
		Changes []auditItem `json:"changes"`
		Next    int64       `json:"next,omitempty"`
	}{Changes: []auditItem{}}
	for _, e := range entries {
		page.Changes = append(page.Changes, auditItem{
			ID: e.ID, At: e.At.UTC(), Action: e.Action, Key: e.Key, Actor: e.Actor, RequestID: e.RequestID, Before: e.Before, After: e.After,
		})
	}
	if more {
		page.Next = entries[len(entries)-1].ID
	}
	return c.writeJSON(http.StatusOK, page)
}
