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
	// channel carries the names of environments that changed.
	channel = "flagcache"
	// lookTimeout bounds one look at the version: a connection that takes longer
	// counts as dead.
	lookTimeout = 2 * time.Second
	// setUpTimeout bounds connecting and migrating.
	setUpTimeout = 15 * time.Second
	// Back-off of connecting. The upper limit is how long a database that is back
	// may wait to be noticed.
	firstBackoff, lastBackoff = 100 * time.Millisecond, 2 * time.Second
	// uriPoll is how often the URI's file is read without a notification.
	uriPoll = 10 * time.Second
)

// Watch calls changed with the environment's version when it is notified and
// every poll, until ctx is done. It migrates the schema where that is missing.
func (s *Store) Watch(ctx context.Context, changed func(latest source.Version)) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.watchURI(ctx) })

	w := &watcher{store: s, changed: changed}
	backoff := firstBackoff
	for ctx.Err() == nil {
		err := w.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if w.connected {
			backoff = firstBackoff
		}
		w.lost(err)
		s.wait(ctx, jittered(backoff))
		backoff = min(2*backoff, lastBackoff)
	}
}

// wait waits for a time, or until the URI is another one.
func (s *Store) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.moved:
	}
}

// jittered is a duration between half of d and d, so that instances do not come
// back all at once.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// watchURI has connections made anew when the URI is another one.
func (s *Store) watchURI(ctx context.Context) {
	previous, _ := readURI(s.options.URIFile)
	filewatch.Watch(ctx, s.options.Log, []string{filepath.Dir(s.options.URIFile)}, uriPoll, nil, func() {
		// One that cannot be read just now is no reason to drop connections.
		uri, err := readURI(s.options.URIFile)
		if err != nil || uri == previous {
			return
		}
		previous = uri
		s.options.Log.Info("connecting anew: the database's URI changed")
		s.pool.Reset()
		select {
		case s.moved <- struct{}{}:
		default:
		}
	})
}

// watcher is what Watch knows from one connection to the next.
type watcher struct {
	store   *Store
	changed func(source.Version)
	// last is the latest version that was seen.
	last source.Version
	// connected says that the last connection was of use.
	connected bool
	// readOnly says that this connection's role may not give a new epoch.
	readOnly bool
	// trouble is what the log says is wrong.
	trouble string
}

// lost says once why there is no connection.
func (w *watcher) lost(err error) {
	w.connected, w.readOnly = false, false
	if text := err.Error(); text != w.trouble {
		w.trouble = text
		w.store.options.Log.Error("cannot watch the database, trying again", "error", err)
	}
}

func (w *watcher) found() {
	if w.connected {
		return
	}
	w.connected = true
	if w.trouble != "" {
		w.trouble = ""
		w.store.options.Log.Info("watching the database again")
	}
}

// listen watches on one connection until that fails.
func (w *watcher) listen(ctx context.Context) error {
	conn, err := w.subscribe(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	for {
		if err := w.look(ctx, conn); err != nil {
			return err
		}
		w.found()
		if err := w.pause(ctx, conn); err != nil {
			return err
		}
	}
}

func (w *watcher) subscribe(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	conn, err := w.store.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	if err := w.store.ensureSchema(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	// A standby cannot listen. There the poll has to do.
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil && !hasCode(err, codeReadOnly) {
		closeConn(conn)
		return nil, fmt.Errorf("listening for changes: %w", err)
	}
	return conn, nil
}

// pause waits for a notification about the environment, at most until the next
// poll is due.
func (w *watcher) pause(ctx context.Context, conn *pgx.Conn) error {
	due, cancel := context.WithTimeout(ctx, jittered(w.store.options.Poll))
	defer cancel()
	for {
		select {
		case <-w.store.moved:
			return errors.New("the database's URI changed")
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

// look reads the version, and gives a store that went back a new epoch.
func (w *watcher) look(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := w.store.latest(ctx, conn)
	if err != nil {
		return err
	}
	if wentBack := seen.restored || seen.version.Compare(w.last) < 0; wentBack && !seen.standby && !w.readOnly {
		if seen, err = w.renew(ctx, conn, seen); err != nil {
			return err
		}
	}
	w.last = seen.version
	w.changed(seen.version)
	return nil
}

// sight is what a look at the environment finds.
type sight struct {
	version source.Version
	// restored says that the epoch was given in another store.
	restored bool
	// standby says that this server cannot be written to, and may be behind.
	standby bool
}

func (s *Store) latest(ctx context.Context, q querier) (sight, error) {
	var seen sight
	row := q.QueryRow(ctx, "SELECT epoch, version, incarnation <> flagcache.incarnation(), pg_is_in_recovery() FROM flagcache.environments WHERE name = $1",
		s.options.Environment)
	if err := row.Scan(&seen.version.Epoch, &seen.version.Number, &seen.restored, &seen.standby); err != nil {
		return sight{}, fmt.Errorf("reading the version of the flags: %w", err)
	}
	return seen, nil
}

// renew gives the environment a new epoch, unless another instance has done so. A
// role that may only read leaves that to one that may write.
func (w *watcher) renew(ctx context.Context, conn *pgx.Conn, seen sight) (sight, error) {
	_, err := conn.Exec(ctx, `UPDATE flagcache.environments
		SET epoch = greatest(flagcache.new_epoch(), $3::bigint, epoch + 1), incarnation = flagcache.incarnation()
		WHERE name = $1 AND epoch = $2::bigint`,
		w.store.options.Environment, seen.version.Epoch, w.last.Epoch+1)
	switch {
	case hasCode(err, codeInsufficientPrivilege, codeReadOnly):
		w.readOnly = true
		w.store.options.Log.Warn("the database went back, as after a restore, and this role may not give it a new epoch: "+
			"instances that saw later versions keep them until one that may write looks, or a flag changes often enough",
			"environment", w.store.options.Environment, "error", err)
		return seen, nil
	case err != nil:
		return seen, fmt.Errorf("giving a restored database a new epoch: %w", err)
	}
	w.store.options.Log.Warn("the database went back, as after a restore: what it holds counts as the latest",
		"environment", w.store.options.Environment, "seen", w.last.String(), "found", seen.version.String())
	return w.store.latest(ctx, conn)
}
