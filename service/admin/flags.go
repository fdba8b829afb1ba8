// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// flagItem is a flag in a list.
type flagItem struct {
	Key        string          `json:"key"`
	ETag       string          `json:"etag"`
	Version    int64           `json:"version"`
	UpdatedAt  time.Time       `json:"updatedAt"`
	UpdatedBy  string          `json:"updatedBy"`
	Definition json.RawMessage `json:"definition"`
}

func (a *api) listFlags(c *call) error {
	environment, err := c.environment()
	if err != nil {
		return err
	}
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	if _, err := a.Store.ReadEnvironment(c.r.Context(), environment); err != nil {
		return err
	}
	stored, err := a.Store.Flags(c.r.Context(), environment, after, limit+1)
	if err != nil {
		return err
	}
	page := struct {
		Flags []flagItem `json:"flags"`
		Next  string     `json:"next,omitempty"`
	}{Flags: []flagItem{}}
	for _, f := range stored[:min(limit, len(stored))] {
		page.Flags = append(page.Flags, flagItem{
			Key: f.Key, ETag: etag(f.Version), Version: f.Version.Number, UpdatedAt: f.UpdatedAt.UTC(), UpdatedBy: f.UpdatedBy, Definition: f.Definition,
		})
	}
	if len(stored) > limit {
		page.Next = stored[limit-1].Key
	}
	return c.writeJSON(http.StatusOK, page)
}

func (a *api) readFlag(c *call) error {
	environment, key, err := c.flag()
	if err != nil {
		return err
	}
	stored, err := a.Store.Flag(c.r.Context(), environment, key)
	if err != nil {
		return err
	}
	if tag := etag(stored.Version); matches(c.r.Header.Values("If-None-Match"), tag) {
		c.w.Header().Set("ETag", tag)
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return c.writeFlag(http.StatusOK, stored)
}

// createFlag creates a flag that must not exist.
func (a *api) createFlag(c *call) error {
	environment, err := c.environment()
	if err != nil {
		return err
	}
	data, err := c.body("application/json")
	if err != nil {
		return err
	}
	var request struct {
		Key        string          `json:"key"`
		Definition json.RawMessage `json:"definition"`
	}
	if err := decode(data, &request, "key", "definition"); err != nil {
		return err
	}
	if err := checkKey(request.Key); err != nil {
		return err
	}
	return a.edit(c, environment, request.Key, func(e postgres.Environment, current *postgres.Flag) ([]byte, error) {
		if current != nil {
			return nil, newProblem(http.StatusConflict, "the flag already exists: read it, then replace or patch it")
		}
		return validate(e, request.Key, nil, request.Definition)
	})
}

// replaceFlag replaces the definition of an existing flag with the body or,
// with If-None-Match: *, creates the flag.
func (a *api) replaceFlag(c *call) error {
	environment, key, err := c.flag()
	if err != nil {
		return err
	}
	definition, err := c.body("application/json")
	if err != nil {
		return err
	}
	return a.edit(c, environment, key, func(e postgres.Environment, current *postgres.Flag) ([]byte, error) {
		if err := checkPreconditions(c.r.Header, tagOf(current)); err != nil {
			return nil, err
		}
		return validate(e, key, current, definition)
	})
}

// patchFlag merges the body into the definition (RFC 7386).
func (a *api) patchFlag(c *call) error {
	environment, key, err := c.flag()
	if err != nil {
		return err
	}
	patch, err := c.body("application/merge-patch+json")
	if err != nil {
		return err
	}
	if trimmed := bytes.TrimSpace(patch); !json.Valid(trimmed) || trimmed[0] != '{' {
		return newProblem(http.StatusBadRequest, "a merge patch of a flag must be a JSON object")
	}
	return a.edit(c, environment, key, func(e postgres.Environment, current *postgres.Flag) ([]byte, error) {
		if current == nil {
			return nil, postgres.ErrNotFound
		}
		if err := checkPreconditions(c.r.Header, tagOf(current)); err != nil {
			return nil, err
		}
		merged, err := jsonpatch.MergePatch(current.Definition, patch)
		if err != nil {
			return nil, newProblem(http.StatusBadRequest, "the patch cannot be applied")
		}
		return validate(e, key, current, merged)
	})
}

func (a *api) deleteFlag(c *call) error {
	environment, key, err := c.flag()
	if err != nil {
		return err
	}
	return a.edit(c, environment, key, func(_ postgres.Environment, current *postgres.Flag) ([]byte, error) {
		if current == nil {
			return nil, postgres.ErrNotFound
		}
		return nil, checkPreconditions(c.r.Header, tagOf(current))
	})
}

// edit changes a flag, publishes the change, and responds with the stored flag.
func (a *api) edit(c *call, environment, key string, decide func(postgres.Environment, *postgres.Flag) ([]byte, error)) error {
	var before *postgres.Flag
	stored, err := a.Store.EditFlag(c.r.Context(), c.author(), environment, key, func(e postgres.Environment, current *postgres.Flag) ([]byte, error) {
		before = current
		return decide(e, current)
	})
	if err != nil {
		return err
	}
	switch {
	case stored == nil:
		a.publish(c, environment, "delete", key)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case before == nil:
		a.publish(c, environment, "create", key)
		c.w.Header().Set("Location", config.PathAdmin+"/environments/"+url.PathEscape(environment)+"/flags/"+url.PathEscape(key))
		return c.writeFlag(http.StatusCreated, stored)
	case before.Version != stored.Version:
		a.publish(c, environment, "update", key)
	}
	return c.writeFlag(http.StatusOK, stored)
}

// writeFlag responds with a flag's definition.
func (c *call) writeFlag(status int, f *postgres.Flag) error {
	header := c.w.Header()
	header.Set("ETag", etag(f.Version))
	header.Set("Last-Modified", f.UpdatedAt.UTC().Format(http.TimeFormat))
	return c.writeJSON(status, f.Definition)
}

func (c *call) writeJSON(status int, value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	// Definitions are returned as they were written.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	// A failed write means that the client has disconnected.
	_, _ = c.w.Write(text.Bytes())
	return nil
}
