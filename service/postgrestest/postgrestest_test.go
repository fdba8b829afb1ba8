// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgrestest_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/flagcache/flagcache/service/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func mustQuery(t *testing.T, uri, query string) (text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(context.Background(), query).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	first, second := postgrestest.Database(t), postgrestest.Database(t)
	if a, b := mustQuery(t, first, "SELECT current_database()"), mustQuery(t, second, "SELECT current_database()"); a == b {
		t.Errorf("both are %s", a)
	}
}

func TestKilledServerKeepsCommittedData(t *testing.T) {
	server := postgrestest.Start(t)
	uri := server.Database(t)
	mustQuery(t, uri, "SELECT lo_from_bytea(4711, 'here')::text")
	server.Kill()
	if conn, err := pgx.Connect(context.Background(), uri); err == nil {
		_ = conn.Close(context.Background())
		t.Fatal("a killed server accepts connections")
	}
	server.Restart(t)
	if got := mustQuery(t, uri, "SELECT convert_from(lo_get(4711), 'UTF8')"); got != "here" {
		t.Errorf("the database holds %q", got)
	}
}
