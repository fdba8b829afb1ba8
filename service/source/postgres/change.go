// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/flagcache/flagcache/service/source"
)

// changeTimeout limits one change, including the wait for concurrent ones.
const changeTimeout = 5 * time.Second

// MaxKey is the maximum length of a flag's key in bytes.
const MaxKey = 256

// Flag is a stored flag.
type Flag struct {
	Key string
	// Definition is a JSON object in flagd's format.
	Definition json.RawMessage
	// Version is the version of the document that the flag's last change created.
	// Different contents of a flag never share a version, even if the flag was
	// deleted in between.
	Version   source.Version
	UpdatedAt time.Time
	// UpdatedBy is the author of the last change: a client of the admin API, or a
	// user of the database.
	UpdatedBy string
}

// Author identifies the client that requests a change, for the audit.
type Author struct {
	// Actor is the client's name, RequestID the ID of its request.
	Actor, RequestID string
}

// EditFlag changes one flag. edit receives the environment and the current
// flag, nil if there is none, and returns the new definition, nil to delete the
// flag. Concurrent changes of the environment are locked out meanwhile. If edit
// fails, nothing is changed and its error is returned unwrapped. A missing
// environment is created.
//
// EditFlag returns the stored flag, nil if it was deleted. An unchanged
// definition is not a change.
func (s *Store) EditFlag(ctx context.Context, who Author, environment, key string,
	edit func(Environment, *Flag) (definition []byte, err error),
) (stored *Flag, err error) {
	err = s.change(ctx, who, environment, func(tx pgx.Tx, e Environment) error {
		current, err := readFlag(ctx, tx, e, key)
		if errors.Is(err, ErrNotFound) {
			current, err = nil, nil
		}
		if err != nil {
			return err
		}
		definition, err := edit(e, current)
		if err != nil {
			return err
		}
		stored, err = s.write(ctx, tx, e, key, current, definition)
		return err
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// EditEnvironment changes the parts that the flags of an environment share.
// edit receives the current environment and its document, and returns the new
// evaluators and metadata, nil for none.
func (s *Store) EditEnvironment(ctx context.Context, who Author, environment string,
	edit func(current Environment, document []byte) (evaluators, metadata []byte, err error),
) (stored Environment, err error) {
	err = s.change(ctx, who, environment, func(tx pgx.Tx, e Environment) error {
		data, err := document(ctx, tx, e, s.options.MaxSize)
		if err != nil {
			return err
		}
		evaluators, metadata, err := edit(e, data)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE flagcache.environments SET evaluators = $2::json, metadata = $3::json WHERE name = $1",
			environment, nullable(evaluators), nullable(metadata)); err != nil {
			return fmt.Errorf("writing environment %s: %w", environment, err)
		}
		if stored, err = readEnvironment(ctx, tx, environment, ""); err != nil {
			return err
		}
		_, err = document(ctx, tx, stored, s.options.MaxSize)
		return err
	})
	return stored, err
}

// nullable returns JSON as a string, or nil for SQL's NULL.
func nullable(text []byte) *string {
	if text == nil {
		return nil
	}
	s := string(text)
	return &s
}

// change runs do in a transaction that holds a lock on the environment.
func (s *Store) change(ctx context.Context, who Author, environment string, do func(pgx.Tx, Environment) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('flagcache.actor', $1, true), set_config('flagcache.request_id', $2, true)",
			who.Actor, who.RequestID); err != nil {
			return fmt.Errorf("setting the author of a change: %w", err)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO flagcache.environments (name) VALUES ($1) ON CONFLICT DO NOTHING", environment); err != nil {
			return fmt.Errorf("adding environment %s: %w", environment, err)
		}
		e, err := readEnvironment(ctx, tx, environment, "FOR UPDATE")
		if err != nil {
			return err
		}
		return do(tx, e)
	})
}

// write replaces the current definition.
func (s *Store) write(ctx context.Context, tx pgx.Tx, e Environment, key string, current *Flag, definition []byte) (*Flag, error) {
	switch {
	case definition == nil:
		_, err := tx.Exec(ctx, "DELETE FROM flagcache.flags WHERE environment = $1 AND key = $2", e.Name, key)
		if err != nil {
			return nil, fmt.Errorf("deleting flag %q: %w", key, err)
		}
		return nil, nil
	case current != nil && bytes.Equal(current.Definition, definition):
		return current, nil
	}
	statement := "INSERT INTO flagcache.flags (environment, key, definition) VALUES ($1, $2, $3::json)"
	if current != nil {
		statement = "UPDATE flagcache.flags SET definition = $3::json WHERE environment = $1 AND key = $2"
	}
	if _, err := tx.Exec(ctx, statement, e.Name, key, string(definition)); err != nil {
		return nil, fmt.Errorf("writing flag %q: %w", key, err)
	}
	// A document that cannot be loaded must not be committed.
	changed, err := document(ctx, tx, e, s.options.MaxSize)
	if err != nil {
		return nil, err
	}
	if s.options.Check != nil {
		if err := s.options.Check(changed); err != nil {
			return nil, err
		}
	}
	return readFlag(ctx, tx, e, key)
}
