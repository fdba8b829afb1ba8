// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/flagcache/flagcache/service/source"
)

// readTimeout limits one query.
const readTimeout = 5 * time.Second

// AuditEntry records one change.
type AuditEntry struct {
	// ID increases with time.
	ID int64
	// Key is the flag's key, empty for a change of the environment itself.
	Key string
	// Action is create, update, delete, configure or truncate.
	Action string
	// Actor is the client of the admin API, or the database user for a change by
	// SQL, which has no RequestID.
	Actor, RequestID string
	// Before and After are the definition, nil if there is none.
	Before, After json.RawMessage
	At            time.Time
}

// Flag reads one flag. The error is ErrNotFound if it does not exist.
func (s *Store) Flag(ctx context.Context, environment, key string) (*Flag, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return readFlag(ctx, s.pool, Environment{Name: environment}, key)
}

const flagColumns = `f.key, f.definition::text, e.epoch, f.version, f.updated_at, f.updated_by
	FROM flagcache.flags f JOIN flagcache.environments e ON e.name = f.environment `

func readFlag(ctx context.Context, q querier, e Environment, key string) (*Flag, error) {
	rows, err := q.Query(ctx, "SELECT "+flagColumns+"WHERE f.environment = $1 AND f.key = $2", e.Name, key)
	if err != nil {
		return nil, fmt.Errorf("reading flag %q: %w", key, err)
	}
	flag, err := pgx.CollectExactlyOneRow(rows, scanFlag)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("flag %q of environment %s: %w", key, e.Name, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("reading flag %q: %w", key, err)
	}
	return &flag, nil
}

func scanFlag(row pgx.CollectableRow) (Flag, error) {
	var f Flag
	var definition string
	err := row.Scan(&f.Key, &definition, &f.Version.Epoch, &f.Version.Number, &f.UpdatedAt, &f.UpdatedBy)
	f.Definition = json.RawMessage(definition)
	return f, err
}

// Flags reads up to limit flags with keys greater than after, sorted by key.
func (s *Store) Flags(ctx context.Context, environment, after string, limit int) ([]Flag, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, "SELECT "+flagColumns+"WHERE f.environment = $1 AND f.key > $2 ORDER BY f.key LIMIT $3", environment, after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the flags of environment %s: %w", environment, err)
	}
	flags, err := pgx.CollectRows(rows, scanFlag)
	if err != nil {
		return nil, fmt.Errorf("reading the flags of environment %s: %w", environment, err)
	}
	return flags, nil
}

// ReadEnvironment reads an environment. The error is ErrNotFound if it does not
// exist.
func (s *Store) ReadEnvironment(ctx context.Context, name string) (Environment, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return readEnvironment(ctx, s.pool, name, "")
}

// Environments reads the names and versions of up to limit environments with
// names greater than after, sorted by name.
func (s *Store) Environments(ctx context.Context, after string, limit int) ([]Environment, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, "SELECT name, epoch, version, updated_at FROM flagcache.environments WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the environments: %w", err)
	}
	environments, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Environment, error) {
		var e Environment
		var v source.Version
		err := row.Scan(&e.Name, &v.Epoch, &v.Number, &e.UpdatedAt)
		e.Version = v
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the environments: %w", err)
	}
	return environments, nil
}

// maxAuditBytes of the definitions in a page of the audit, which ends with the change that
// exceeds it: each has up to two definitions as large as a flags file.
const maxAuditBytes = 1 << 20

// Audit reads up to limit changes of an environment, latest first: those of one
// flag, or of all if key is empty; and only those with an ID less than before,
// unless it is 0. It reads fewer where they are large; more is true if there are others.
func (s *Store) Audit(ctx context.Context, environment, key string, before int64, limit int) (entries []AuditEntry, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if before <= 0 {
		before = math.MaxInt64
	}
	// The server adds up the sizes, so that what is left out is not sent. Rows hold one row
	// more than the limit, to know whether there are others.
	rows, err := s.pool.Query(ctx, `
		WITH candidates AS (
			SELECT id, key, action, actor, request_id, before::text, after::text, at
			FROM flagcache.audit WHERE environment = $1 AND ($2 = '' OR key = $2) AND id < $3 ORDER BY id DESC LIMIT $4 + 1
		), sized AS (
			SELECT *, count(*) OVER () AS found, row_number() OVER latest AS position,
				coalesce(sum(coalesce(octet_length(before), 0) + coalesce(octet_length(after), 0))
					OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS preceding
			FROM candidates WINDOW latest AS (ORDER BY id DESC)
		)
		SELECT id, coalesce(key, ''), action, actor, request_id, before, after, at, found
		FROM sized WHERE position <= $4 AND preceding < $5 ORDER BY id DESC`, environment, key, before, limit, maxAuditBytes)
	if err != nil {
		return nil, false, fmt.Errorf("reading the audit of environment %s: %w", environment, err)
	}
	found := 0
	entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (AuditEntry, error) {
		var e AuditEntry
		var before, after *string
		err := row.Scan(&e.ID, &e.Key, &e.Action, &e.Actor, &e.RequestID, &before, &after, &e.At, &found)
		e.Before, e.After = rawJSON(before), rawJSON(after)
		return e, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("reading the audit of environment %s: %w", environment, err)
	}
	return entries, found > len(entries), nil
}
