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

// changeTimeout bounds one change, waiting for others' included.
const changeTimeout = 5 * time.Second

// MaxKey is the most bytes that a flag's key may have.
const MaxKey = 256

// Flag is one flag as it is stored.
type Flag struct {
	Key string
	// Definition is a JSON object in flagd's format.
	Definition json.RawMessage
	// Version is that of the document which the flag's last change made. No two
	// contents of a flag have the same, also if it was deleted in between.
	Version   source.Version
	UpdatedAt time.Time
	// UpdatedBy is who changed it last: a client of the admin API, or a user of the
	// database.
	UpdatedBy string
}

// Author is who asks for a change, for the audit.
type Author struct {
	// Actor is the name of the client, RequestID that of its request.
	Actor, RequestID string
}

// EditFlag decides about one flag: edit gets the environment and the flag as they
// are, nil where there is none, and returns the definition that is to be, nil to
// delete. Nobody else changes anything of the environment meanwhile. An error of
// edit is returned as it is, and then nothing has changed. The environment is made
// where it is missing.
//
// The flag returned is what is stored then, nil if it was deleted. A definition
// that is the same as before is no change.
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

// EditEnvironment decides about what the flags of an environment share: edit gets
// it as it is, with its document, and returns the evaluators and the metadata that
// are to be, nil for none.
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

// nullable is a JSON text, or SQL's null.
func nullable(text []byte) *string {
	if text == nil {
		return nil
	}
	s := string(text)
	return &s
}

// change does something in a transaction that has the environment for itself.
func (s *Store) change(ctx context.Context, who Author, environment string, do func(pgx.Tx, Environment) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('flagcache.actor', $1, true), set_config('flagcache.request_id', $2, true)",
			who.Actor, who.RequestID); err != nil {
			return fmt.Errorf("naming the author of a change: %w", err)
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

// write stores a definition in the place of the current one.
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
	// What is too large to be loaded must not be committed.
	if _, err := document(ctx, tx, e, s.options.MaxSize); err != nil {
		return nil, err
	}
	return readFlag(ctx, tx, e, key)
}
