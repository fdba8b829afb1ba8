// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/flagcache/flagcache/service/config"
)

const (
	// maxConnections limits the connections of a process for loading and changing
	// flags, besides the listening one.
	maxConnections = 4
	// connectTimeout limits one attempt at one host, unless the URI sets another
	// limit.
	connectTimeout = 3 * time.Second
	// maxURISize limits the size of the file with the URI.
	maxURISize = 8 << 10
	// applicationName is shown in pg_stat_activity, unless the URI sets another
	// name.
	applicationName = "flagcache"
)

// sessionSettings limit the server's work for a connection, even after the
// client has disconnected. They are set after connecting, because poolers
// reject them as connection parameters.
const sessionSettings = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '10s'"

// errInvalidURI never quotes the file, which contains a password.
var errInvalidURI = errors.New("the file does not contain a PostgreSQL URI such as postgres://user:password@host:5432/database; " +
	"special characters in the password must be percent-encoded")

// sslModes are those that decide whether the connection is encrypted.
var sslModes = strings.Split(config.PostgresSSLModes, ", ")

var errNoSSLMode = errors.New("the database URI must have the parameter sslmode, such as ?sslmode=verify-full; one of " +
	config.PostgresSSLModes + ", where disable sends the password and the flags in plain text")

// sslMode returns the mode that a URI or the environment sets.
func sslMode(uri string) string {
	parsed, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return cmp.Or(parsed.Query().Get("sslmode"), os.Getenv("PGSSLMODE"))
}

// readURI reads the URI from the file.
func readURI(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the database URI: %w", err)
	}
	uri := strings.TrimSpace(string(data))
	if len(data) > maxURISize || !strings.HasPrefix(uri, "postgres://") && !strings.HasPrefix(uri, "postgresql://") {
		return "", errInvalidURI
	}
	return uri, nil
}

// hasUnescaped reports whether a URI has a special character in the user name or the
// password: what follows would be taken for the host and the database, which are logged.
func hasUnescaped(uri string) bool {
	_, rest, _ := strings.Cut(uri, "://")
	end := strings.IndexAny(rest, "/?#")
	return end >= 0 && (strings.Contains(rest, "#") || strings.Contains(rest[end:], "@"))
}

// parseURI converts a URI to a configuration. Of pgx's errors only an
// unreadable file is passed on: all others may quote a password.
func parseURI(uri string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(uri)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return nil, fmt.Errorf("a file referenced by the database URI: %w", file)
	case err != nil, hasUnescaped(uri):
		return nil, errInvalidURI
	}
	if !slices.Contains(sslModes, sslMode(uri)) {
		return nil, errNoSSLMode
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
	}
	// Prepared statements do not work through a connection pooler.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return config, nil
}

// configure reads the URI for each new connection, so that a new password is
// used from the next connection on.
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

func configureSession(ctx context.Context, conn *pgx.Conn) error {
	if err := conn.PgConn().Exec(ctx, sessionSettings).Close(); err != nil {
		return fmt.Errorf("setting the connection's time limits: %w", err)
	}
	return nil
}

// connect opens a connection outside of the pool.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	config := &pgx.ConnConfig{}
	if err := s.configure(ctx, config); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := configureSession(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// closeConn closes a connection without waiting long for a server that may be
// down.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// newPool returns a pool that connects on first use.
func (s *Store) newPool() *pgxpool.Pool {
	config, err := pgxpool.ParseConfig("postgres://localhost")
	if err != nil {
		panic(fmt.Sprintf("parsing a constant URI: %v", err))
	}
	config.BeforeConnect = s.configure
	config.AfterConnect = configureSession
	config.MaxConns = maxConnections
	// A restarted server leaves dead connections in the pool.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	config.PingTimeout = time.Second
	config.MaxConnIdleTime = time.Minute
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		panic(fmt.Sprintf("creating a pool: %v", err))
	}
	return pool
}

// hasCode reports whether the server returned one of the SQLSTATE codes.
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
	codeLockNotAvailable      = "55P03"
)
