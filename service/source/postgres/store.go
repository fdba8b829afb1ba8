// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/flagcache/flagcache/service/source"
)

// DefaultPoll is the default interval at which the version is read without a
// notification.
const DefaultPoll = 2 * time.Second

// loadTimeout limits reading a document.
const loadTimeout = 5 * time.Second

// Options configure a Store.
type Options struct {
	// URIFile is the path of a file with the connection URI. It is reloaded when it
	// changes.
	URIFile string
	// Environment is the environment that Watch and Load read.
	Environment string
	// MaxSize is the maximum size of a document in bytes.
	MaxSize int
	// Check is called with the environment's document before a flag is changed or
	// added; an error refuses the change. It is optional.
	Check func(document []byte) error
	// Poll is the interval at which the version is read without a notification; the
	// default is DefaultPoll.
	Poll time.Duration
	Log  *slog.Logger
}

// Store stores flags in a PostgreSQL database. It implements source.Source.
type Store struct {
	options Options
	pool    *pgxpool.Pool
	// uriChanged receives a value when the URI changes.
	uriChanged chan struct{}
	// expedite receives a value when the version is to be read at once.
	expedite chan struct{}
	// prepared is set once the schema is known to exist.
	prepared atomic.Bool
	// schema is the number of migrations that are applied. One that an earlier release
	// created is outdated until a role with the permission migrates it.
	schema atomic.Int64
	// outdatedError is why it was not migrated, as logged last.
	outdatedError atomic.Pointer[string]
}

// querier is implemented by connections, pools and transactions.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Open returns a store that connects on first use. The file with the URI need
// not exist yet.
func Open(options Options) *Store {
	if options.Poll == 0 {
		options.Poll = DefaultPoll
	}
	s := &Store{options: options, uriChanged: make(chan struct{}, 1), expedite: make(chan struct{}, 1)}
	s.pool = s.newPool()
	return s
}

// Close closes all connections, after the requests that use them.
func (s *Store) Close() { s.pool.Close() }

// Shared implements source.Source: all instances read one database.
func (s *Store) Shared() bool { return true }

var _ source.Source = (*Store)(nil)

// Load reads a consistent version of the environment's flags as one document,
// sorted by key. Equal flags result in equal bytes.
func (s *Store) Load(ctx context.Context) (source.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		return source.Document{}, fmt.Errorf("loading flags from PostgreSQL: %w", err)
	}
	var d source.Document
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		environment, err := readEnvironment(ctx, tx, s.options.Environment, "")
		if err != nil {
			return err
		}
		seen, err := s.latest(ctx, tx)
		if err != nil {
			return err
		}
		d.State, d.Modified = seen.state, environment.UpdatedAt
		d.Data, err = document(ctx, tx, environment, s.options.MaxSize)
		return err
	})
	if err != nil {
		return source.Document{}, fmt.Errorf("loading flags from PostgreSQL: %w", err)
	}
	d.Digest = source.Digest(d.Data)
	return d, nil
}

// Environment holds what the flags of an environment share.
type Environment struct {
	Name string
	// Version is the version of the environment's document.
	Version source.Version
	// Evaluators and Metadata are the document's $evaluators and metadata: JSON
	// objects, or nil.
	Evaluators, Metadata json.RawMessage
	UpdatedAt            time.Time
}

// TooLargeError is returned if an environment's document is larger than flag
// services accept.
type TooLargeError struct {
	// Size is the size of the document, Limit the maximum size, both in bytes.
	Size, Limit int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the flags of the environment have %d bytes in total; the limit is %d", e.Size, e.Limit)
}

// ErrNotFound is returned if an environment or a flag does not exist.
var ErrNotFound = errors.New("not found in the database")

// readEnvironment reads an environment's row. locking is appended to the query.
func readEnvironment(ctx context.Context, q querier, name, locking string) (Environment, error) {
	e := Environment{Name: name}
	row := q.QueryRow(ctx, "SELECT epoch, version, evaluators::text, metadata::text, updated_at FROM flagcache.environments WHERE name = $1 "+locking, name)
	var evaluators, metadata *string
	err := row.Scan(&e.Version.Epoch, &e.Version.Number, &evaluators, &metadata, &e.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, fmt.Errorf("environment %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return e, fmt.Errorf("reading environment %s: %w", name, err)
	}
	e.Evaluators, e.Metadata = rawJSON(evaluators), rawJSON(metadata)
	return e, nil
}

func rawJSON(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// document renders an environment's flags in flagd's format, one flag per line.
func document(ctx context.Context, q querier, e Environment, maxSize int) ([]byte, error) {
	rows, err := q.Query(ctx, "SELECT key, definition::text FROM flagcache.flags WHERE environment = $1 ORDER BY key", e.Name)
	if err != nil {
		return nil, fmt.Errorf("reading the flags: %w", err)
	}
	defer rows.Close()
	b := beginDocument(e)
	// A document that is too large is measured to its end, but not kept.
	size := 0
	for first := true; rows.Next(); first = false {
		var key, definition string
		if err := rows.Scan(&key, &definition); err != nil {
			return nil, fmt.Errorf("reading a flag: %w", err)
		}
		if !first {
			b.WriteString(",\n")
		}
		writeMember(b, key, []byte(definition))
		if size+b.Len() > maxSize {
			size += b.Len()
			b.Reset()
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the flags: %w", err)
	}
	b.WriteString("\n}}\n")
	if size += b.Len(); size > maxSize {
		return nil, &TooLargeError{Size: size, Limit: maxSize}
	}
	return b.Bytes(), nil
}

// beginDocument writes the part of a document before the flags, which begin on
// a new line.
func beginDocument(e Environment) *bytes.Buffer {
	b := bytes.NewBufferString("{")
	if e.Metadata != nil {
		writeMember(b, "metadata", e.Metadata)
		b.WriteString(",\n")
	}
	if e.Evaluators != nil {
		writeMember(b, "$evaluators", e.Evaluators)
		b.WriteString(",\n")
	}
	b.WriteString(`"flags":{` + "\n")
	return b
}

func writeMember(b *bytes.Buffer, key string, value []byte) {
	name, err := json.Marshal(key)
	if err != nil {
		panic(fmt.Sprintf("marshaling a string: %v", err))
	}
	b.Write(name)
	b.WriteByte(':')
	b.Write(value)
}
