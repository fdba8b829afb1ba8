// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxConnections is how many connections a process has for loading and
	// changing, besides the one that listens.
	maxConnections = 4
	// connectTimeout bounds one attempt at one host, unless the URI says otherwise.
	connectTimeout = 3 * time.Second
	// maxURISize bounds the file with the URI.
	maxURISize = 8 << 10
	// applicationName is what pg_stat_activity shows, unless the URI says otherwise.
	applicationName = "flagcache"
)

// sessionSettings bound what the server does for a connection, also when we are
// gone. They are set after connecting, because poolers refuse them as parameters
// of a connection.
const sessionSettings = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '10s'"

// errNoURI never quotes the file, which holds a password.
var errNoURI = errors.New("the file holds no PostgreSQL URI such as postgres://user:password@host:5432/database; " +
	"special characters of a password must be percent-encoded")

// readURI reads the URI that the file holds now.
func readURI(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the database's URI: %w", err)
	}
	uri := strings.TrimSpace(string(data))
	if len(data) > maxURISize || !strings.HasPrefix(uri, "postgres://") && !strings.HasPrefix(uri, "postgresql://") {
		return "", errNoURI
	}
	return uri, nil
}

// parseURI makes a configuration of a URI. Of what pgx says about a bad one only
// a file that cannot be read is passed on: the rest may quote a password.
func parseURI(uri string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(uri)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return nil, fmt.Errorf("a file that the database's URI names: %w", file)
	case err != nil:
		return nil, errNoURI
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
	}
	// Prepared statements do not survive a pooler between us and the server.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return config, nil
}

// configure reads the URI for each new connection, so that another password
// counts from the next one on.
func (s *Store) configure(_ context.Context, config *pgx.ConnConfig) error {
	uri, err := readURI(s.options.URIFile)
	if err != nil {
		return err
	}
	parsed, err := parseURI(uri)
	if err != nil {
		return err
	}
	*config = *parsed
	return nil
}

func setUp(ctx context.Context, conn *pgx.Conn) error {
	if err := conn.PgConn().Exec(ctx, sessionSettings).Close(); err != nil {
		return fmt.Errorf("setting the connection's time limits: %w", err)
	}
	return nil
}

// connect opens a connection that is not of the pool.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	config := &pgx.ConnConfig{}
	if err := s.configure(ctx, config); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := setUp(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// closeConn says good-bye to a server that may be gone.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// newPool makes a pool that connects when it is first used.
func (s *Store) newPool() *pgxpool.Pool {
	config, err := pgxpool.ParseConfig("postgres://localhost")
	if err != nil {
		panic(fmt.Sprintf("a constant URI does not parse: %v", err))
	}
	config.BeforeConnect = s.configure
	config.AfterConnect = setUp
	config.MaxConns = maxConnections
	// A server that was restarted has left dead connections behind.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	config.PingTimeout = time.Second
	config.MaxConnIdleTime = time.Minute
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		panic(fmt.Sprintf("a pool that does not connect cannot be made: %v", err))
	}
	return pool
}

// hasCode tells whether the server refused with one of the SQLSTATE codes.
func hasCode(err error, codes ...string) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	for _, code := range codes {
		if refused.Code == code {
			return true
		}
	}
	return false
}

// SQLSTATE codes.
const (
	codeReadOnly              = "25006" // also LISTEN on a standby
	codeUndefinedTable        = "42P01"
	codeInvalidSchema         = "3F000"
	codeInsufficientPrivilege = "42501"
)
