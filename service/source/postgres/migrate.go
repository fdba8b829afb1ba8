// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the key of the advisory lock that one process holds while it
// migrates: "flagcach" in ASCII.
const migrationLock = 0x666c616763616368

// The migrations that add the identity of documents, and the former name of the store.
const (
	identifiedSince = 2
	formerSince     = 3
	// latestMigration is the last one.
	latestMigration = formerSince
)

// migrationInterval is the time between attempts to migrate the schema of an earlier
// release, in polls.
const migrationInterval = 30

// prepare ensures that the schema exists, for callers that run before the
// watcher has done so.
func (s *Store) prepare(ctx context.Context) error {
	if s.prepared.Load() {
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return s.ensureSchema(ctx, conn.Conn())
}

// ensureSchema migrates the schema to this version and creates the
// environment's row. A read-only role can use a schema that already exists.
func (s *Store) ensureSchema(ctx context.Context, conn *pgx.Conn) error {
	applied, err := appliedMigrations(ctx, conn)
	if err != nil {
		return fmt.Errorf("reading the version of the schema: %w", err)
	}
	if applied < latestMigration {
		err := migrate(ctx, conn, applied > 0)
		switch {
		case err == nil:
			applied = latestMigration
		case applied > 0 && hasCode(err, codeInsufficientPrivilege, codeReadOnly, codeLockNotAvailable):
			s.logOutdated(err)
		default:
			return fmt.Errorf("migrating the schema: %w", err)
		}
	}
	s.recordSchema(applied)
	if err := s.ensureEnvironment(ctx, conn); err != nil {
		return err
	}
	s.prepared.Store(true)
	return nil
}

// recordSchema records how many migrations are applied.
func (s *Store) recordSchema(applied int) {
	s.schema.Store(int64(applied))
	if applied >= latestMigration {
		s.outdatedError.Store(nil)
	}
}

// logOutdated logs why the schema of an earlier release is used, once per reason.
func (s *Store) logOutdated(err error) {
	reason := err.Error()
	if previous := s.outdatedError.Swap(&reason); previous != nil && *previous == reason {
		return
	}
	s.options.Log.Warn("the schema is of an earlier release and cannot be migrated now, so documents in Redis may be identified by their version only", "error", err)
}

// appliedMigrations returns the number of applied migrations, 0 without a
// schema. It may exceed the number known to this version: migrations are only
// additive.
func appliedMigrations(ctx context.Context, q querier) (applied int, err error) {
	err = q.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM flagcache.migrations").Scan(&applied)
	if hasCode(err, codeUndefinedTable, codeInvalidSchema) {
		return 0, nil
	}
	return applied, err
}

// migrate applies the missing migrations in one transaction. Of concurrent
// processes only one applies them. The schema of an earlier release can be used
// meanwhile, so that nothing waits for long: while a dump holds a lock, everybody else
// would wait behind the migration.
func migrate(ctx context.Context, conn *pgx.Conn, usable bool) error {
	steps, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if usable {
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '200ms'"); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		if err := run(ctx, tx, "CREATE SCHEMA IF NOT EXISTS flagcache;"+
			"CREATE TABLE IF NOT EXISTS flagcache.migrations (version int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"); err != nil {
			return err
		}
		applied, err := appliedMigrations(ctx, tx)
		if err != nil {
			return err
		}
		for i := applied; i < len(steps); i++ {
			text, err := migrations.ReadFile(steps[i])
			if err != nil {
				return err
			}
			if err := run(ctx, tx, string(text)); err != nil {
				return fmt.Errorf("%s: %w", steps[i], err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO flagcache.migrations (version) VALUES ($1)", i+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// run executes several statements.
func run(ctx context.Context, tx pgx.Tx, statements string) error {
	return tx.Conn().PgConn().Exec(ctx, statements).Close()
}

// errNoEnvironment is returned if the environment does not exist and cannot be
// created.
var errNoEnvironment = errors.New("the environment does not exist in the database, and this role may not create it")

// ensureEnvironment creates the environment's row, so that a new database is an
// empty set of flags and not a failure.
func (s *Store) ensureEnvironment(ctx context.Context, conn *pgx.Conn) error {
	var known bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM flagcache.environments WHERE name = $1)", s.options.Environment).Scan(&known); err != nil {
		return fmt.Errorf("reading the environment: %w", err)
	}
	if known {
		return nil
	}
	_, err := conn.Exec(ctx, "INSERT INTO flagcache.environments (name) VALUES ($1) ON CONFLICT DO NOTHING", s.options.Environment)
	if hasCode(err, codeInsufficientPrivilege, codeReadOnly) {
		return errNoEnvironment
	}
	if err != nil {
		return fmt.Errorf("adding the environment: %w", err)
	}
	return nil
}
