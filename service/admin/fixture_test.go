// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/logtest"
	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/source"
	"github.com/flagcache/flagcache/service/source/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

const annToken, bobToken = "anns-token-0123456789", "bobs-token-0123456789"

// fixture is an API with its own database.
type fixture struct {
	t        *testing.T
	url      string
	uri      string
	registry *prometheus.Registry
	log      *logtest.Buffer
	// invalidated receives the environments that were invalidated in Redis.
	invalidated chan string
	// invalidation is the result of an invalidation.
	invalidation error
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, postgrestest.Database(t), func() *rate.Limiter { return nil }, map[string]string{"ann": annToken, "bob": bobToken})
}

func newFixtureOn(t *testing.T, uri string, limit func() *rate.Limiter, tokens map[string]string) *fixture {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "uri")
	write(t, file, uri)
	tokensDir := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokensDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, token := range tokens {
		write(t, filepath.Join(tokensDir, name), token)
	}
	f := &fixture{t: t, uri: uri, registry: prometheus.NewRegistry(), log: &logtest.Buffer{}, invalidated: make(chan string, 1000)}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	store := postgres.Open(postgres.Options{URIFile: file, Environment: "default", MaxSize: flags.MaxSize, Check: flags.CheckBudget, Log: log})
	t.Cleanup(store.Close)
	migrate(t, store)
	server := httptest.NewServer(NewHandler(Options{
		Store: store,
		Find:  access.NewKeys(tokensDir, limit, log).Find,
		Invalidate: func(_ context.Context, environment string) error {
			f.invalidated <- environment
			return f.invalidation
		},
		Log: log,
	}, f.registry))
	t.Cleanup(server.Close)
	f.url = server.URL + config.PathAdmin + "/environments"
	return f
}

// exec executes SQL as a client of the database.
func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.uri)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// migrate waits for the schema, which Watch creates.
func migrate(t *testing.T, store *postgres.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan struct{})
	var once sync.Once
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		store.Watch(ctx, func(source.State) { once.Do(func() { close(seen) }) })
	}()
	<-seen
	cancel()
	<-ended
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// answer is a response.
type answer struct {
	status int
	header http.Header
	body   string
}

const (
	on  = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`
	off = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`
)

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var first, second any
	answer{body: a}.into(t, &first)
	answer{body: b}.into(t, &second)
	return cmp.Equal(first, second)
}
