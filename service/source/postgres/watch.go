// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/flagcache/flagcache/service/filewatch"
	"github.com/flagcache/flagcache/service/source"
)

const (
	// channel is the notification channel; the payload is the name of a changed
	// environment.
	channel = "flagcache"
	// pollTimeout limits reading the version: a slower connection is considered
	// dead.
	pollTimeout = 2 * time.Second
	// subscribeTimeout limits connecting and migrating.
	subscribeTimeout = 15 * time.Second
	// Back-off between connection attempts. The maximum limits how long a recovered
	// database goes unnoticed.
	minBackoff, maxBackoff = 100 * time.Millisecond, 2 * time.Second
	// uriPoll is the interval at which the file with the URI is read without a
	// notification.
	uriPoll = 10 * time.Second
)

// Watch calls changed with the environment's version on each notification and
// at every poll interval, until ctx is done. It migrates the schema if
// necessary.
func (s *Store) Watch(ctx context.Context, changed func(latest source.State)) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.watchURI(ctx) })

	w := &watcher{store: s, changed: changed}
	backoff := minBackoff
	for ctx.Err() == nil {
		err := w.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if w.connected {
			backoff = minBackoff
		}
		w.connectionLost(err)
		s.wait(ctx, withJitter(backoff))
		backoff = min(2*backoff, maxBackoff)
	}
}

// Expedite implements source.Expediter: a notification may have been lost.
func (s *Store) Expedite() {
	select {
	case s.expedite <- struct{}{}:
	default:
	}
}

// wait waits for d, or until the URI changes.
func (s *Store) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.uriChanged:
	}
}

// withJitter returns a random duration between d/2 and d, so that instances do
// not reconnect all at once.
func withJitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// watchURI replaces all connections when the URI changes.
func (s *Store) watchURI(ctx context.Context) {
	previous, _ := readURI(s.options.URIFile)
	filewatch.Watch(ctx, s.options.Log, []string{filepath.Dir(s.options.URIFile)}, uriPoll, nil, func() {
		// A temporarily unreadable file is no reason to drop connections.
		uri, err := readURI(s.options.URIFile)
		if err != nil || uri == previous {
			return
		}
		previous = uri
		s.options.Log.Info("the database URI changed, reconnecting")
		s.pool.Reset()
		select {
		case s.uriChanged <- struct{}{}:
		default:
		}
	})
}

// watcher is the state of Watch across connections.
type watcher struct {
	store   *Store
	changed func(source.State)
	// last is the latest state observed.
	last source.State
	// connected is set while the current connection works.
	connected bool
	// readOnly is set if this connection's role may not assign a new epoch.
	readOnly bool
	// polls counts the polls with the schema of an earlier release.
	polls int
	// lastError is the error logged last.
	lastError string
}

// connectionLost logs why there is no connection, once per reason.
func (w *watcher) connectionLost(err error) {
	w.connected, w.readOnly = false, false
	if text := err.Error(); text != w.lastError {
		w.lastError = text
		w.store.options.Log.Error("cannot watch the database, retrying", "error", err)
	}
}

func (w *watcher) connectionRestored() {
	if w.connected {
		return
	}
	w.connected = true
	if w.lastError != "" {
		w.lastError = ""
		w.store.options.Log.Info("watching the database again")
	}
}

// listen watches on one connection until it fails.
func (w *watcher) listen(ctx context.Context) error {
	conn, err := w.subscribe(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	for {
		if err := w.poll(ctx, conn); err != nil {
			return err
		}
		w.connectionRestored()
		if err := w.awaitChange(ctx, conn); err != nil {
			return err
		}
	}
}

func (w *watcher) subscribe(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	conn, err := w.store.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	if err := w.store.ensureSchema(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	// A standby does not support LISTEN, so only polling works there.
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil && !hasCode(err, codeReadOnly) {
		closeConn(conn)
		return nil, fmt.Errorf("listening for changes: %w", err)
	}
	return conn, nil
}

// awaitChange waits for a notification about the environment, at most until the
// next poll is due.
func (w *watcher) awaitChange(ctx context.Context, conn *pgx.Conn) error {
	due, cancel := context.WithTimeout(ctx, withJitter(w.store.options.Poll))
	var expediting sync.WaitGroup
	defer expediting.Wait()
	defer cancel()
	expediting.Go(func() {
		select {
		case <-due.Done():
		case <-w.store.expedite:
			cancel()
		}
	})
	for {
		select {
		case <-w.store.uriChanged:
			return errors.New("the database URI changed")
		default:
		}
		notification, err := conn.WaitForNotification(due)
		switch {
		case err == nil && notification.Payload == w.store.options.Environment:
			return nil
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case due.Err() != nil && !conn.IsClosed():
			return nil
		default:
			return fmt.Errorf("waiting for changes: %w", err)
		}
	}
}

// poll reads the version, and assigns a new epoch to a store that was reset to
// an earlier state.
func (w *watcher) poll(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if w.store.schema.Load() < latestMigration {
		if err := w.updateSchema(ctx, conn); err != nil {
			return err
		}
	}
	seen, err := w.store.latest(ctx, conn)
	if err != nil {
		return err
	}
	wentBack := seen.restored || seen.state.SameStore(w.last) && seen.state.Version.Compare(w.last.Version) < 0
	if wentBack && !seen.state.Lagging && !w.readOnly {
		if seen, err = w.assignEpoch(ctx, conn, seen); err != nil {
			return err
		}
	}
	w.last = seen.state
	w.changed(seen.state)
	return nil
}

// updateSchema reads the version of an outdated schema, which another instance may have
// migrated, and tries to migrate it from time to time.
func (w *watcher) updateSchema(ctx context.Context, conn *pgx.Conn) error {
	if w.polls++; w.polls%migrationInterval == 0 {
		return w.store.ensureSchema(ctx, conn)
	}
	applied, err := appliedMigrations(ctx, conn)
	if err != nil {
		return fmt.Errorf("reading the version of the schema: %w", err)
	}
	w.store.recordSchema(applied)
	return nil
}

// observation is the observed state of the environment.
type observation struct {
	// state is lagging on a standby.
	state source.State
	// restored means that the epoch was assigned in another store.
	restored bool
}

func (s *Store) latest(ctx context.Context, q querier) (observation, error) {
	identity := "'', '', ''"
	switch schema := s.schema.Load(); {
	case schema >= formerSince:
		identity = "flagcache.store(), flagcache.former_store(), tag::text"
	case schema >= identifiedSince:
		identity = "flagcache.store(), '', tag::text"
	}
	var seen observation
	state := &seen.state
	row := q.QueryRow(ctx, "SELECT epoch, version, incarnation <> flagcache.incarnation(), pg_is_in_recovery(), "+identity+
		" FROM flagcache.environments WHERE name = $1", s.options.Environment)
	if err := row.Scan(&state.Version.Epoch, &state.Version.Number, &seen.restored, &state.Lagging, &state.Store, &state.Former, &state.Tag); err != nil {
		return observation{}, fmt.Errorf("reading the version of the flags: %w", err)
	}
	return seen, nil
}

// assignEpoch assigns a new epoch to the environment, unless another instance
// has done so. A read-only role leaves this to others.
func (w *watcher) assignEpoch(ctx context.Context, conn *pgx.Conn, seen observation) (observation, error) {
	_, err := conn.Exec(ctx, `UPDATE flagcache.environments
		SET epoch = greatest(flagcache.new_epoch(), $3::bigint, epoch + 1), incarnation = flagcache.incarnation()
		WHERE name = $1 AND epoch = $2::bigint`,
		w.store.options.Environment, seen.state.Version.Epoch, w.last.Version.Epoch+1)
	switch {
	case hasCode(err, codeInsufficientPrivilege, codeReadOnly):
		w.readOnly = true
		w.store.options.Log.Warn("the database was reset to an earlier state, as after a restore, and this role may not assign a new epoch",
			"environment", w.store.options.Environment, "error", err)
		return seen, nil
	case err != nil:
		return seen, fmt.Errorf("assigning a new epoch to a restored database: %w", err)
	}
	w.store.options.Log.Warn("the database was reset to an earlier state, as after a restore: assigned a new epoch",
		"environment", w.store.options.Environment, "last", w.last.Version.String(), "current", seen.state.Version.String())
	return w.store.latest(ctx, conn)
}
