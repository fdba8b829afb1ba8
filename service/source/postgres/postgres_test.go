// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/logtest"
	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/source"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// fixture is a store with access to its database.
type fixture struct {
	*Store
	t   *testing.T
	uri string
	log *logtest.Buffer
}

// newFixture returns a store on a database.
func newFixture(t *testing.T, uri string) *fixture {
	t.Helper()
	file := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(file, []byte(uri+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, uri: uri, log: &logtest.Buffer{}}
	f.Store = Open(Options{
		URIFile: file, Environment: "shop", MaxSize: flags.MaxSize, Poll: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
	t.Cleanup(f.Close)
	return f
}

// newMigratedFixture returns a store on a new database with a migrated schema.
func newMigratedFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, postgrestest.Database(t))
	f.migrate()
	return f
}

func (f *fixture) migrate() {
	f.t.Helper()
	conn, err := f.connect(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	defer closeConn(conn)
	if err := f.ensureSchema(f.t.Context(), conn); err != nil {
		f.t.Fatal(err)
	}
}

// exec runs SQL outside of the store, as with psql.
func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.uri)
	if err != nil {
		f.t.Fatal(err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// put stores a flag like the admin API.
func (f *fixture) put(key, definition string) *Flag {
	f.t.Helper()
	flag, err := f.EditFlag(f.t.Context(), Author{Actor: "ann", RequestID: "r1"}, "shop", key,
		func(Environment, *Flag) ([]byte, error) { return []byte(definition), nil })
	if err != nil {
		f.t.Fatal(err)
	}
	return flag
}

func (f *fixture) delete(key string) {
	f.t.Helper()
	_, err := f.EditFlag(f.t.Context(), Author{Actor: "bob", RequestID: "r2"}, "shop", key,
		func(Environment, *Flag) ([]byte, error) { return nil, nil })
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) load() source.Document {
	f.t.Helper()
	d, err := f.Load(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// versionRecorder records the versions that Watch reports.
type versionRecorder struct{ versions chan source.Version }

// watch runs Watch until the test ends.
func (f *fixture) watch() *versionRecorder {
	w := &versionRecorder{versions: make(chan source.Version, 10_000)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Watch(ctx, func(s source.State) { w.versions <- s.Version }) }()
	f.t.Cleanup(func() { cancel(); <-ended })
	return w
}

// await waits for the given version or a later one.
func (w *versionRecorder) await(t *testing.T, want source.Version) source.Version {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-w.versions:
			if got.Compare(want) >= 0 {
				return got
			}
		case <-deadline:
			t.Fatalf("version %s was not reported", want)
		}
	}
}

const (
	on  = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`
	off = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`
)

func TestDocumentHasAllFlagsOfOneEnvironment(t *testing.T) {
	f := newMigratedFixture(t)
	empty := f.load()
	if string(empty.Data) != "{\"flags\":{\n\n}}\n" {
		t.Errorf("without flags the document is %q", empty.Data)
	}
	f.put("b", off)
	f.put("a", on)
	f.put("<a&b>/ü\"", `{"state":"DISABLED","variants":{"n":1.50}}`)
	f.exec("INSERT INTO flagcache.environments (name) VALUES ('other')")
	f.exec("INSERT INTO flagcache.flags (environment, key, definition) VALUES ('other', 'c', '{}')")
	f.exec(`UPDATE flagcache.environments SET metadata = '{"team": "shop"}', evaluators = '{"staff": {"var": "staff"}}' WHERE name = 'shop'`)

	d := f.load()
	want := `{"metadata":{"team": "shop"},
"$evaluators":{"staff": {"var": "staff"}},
"flags":{
"\u003ca\u0026b\u003e/ü\"":{"state":"DISABLED","variants":{"n":1.50}},
"a":` + on + `,
"b":` + off + `
}}
`
	if diff := cmp.Diff(want, string(d.Data)); diff != "" {
		t.Errorf("the document differs (-want +got):\n%s", diff)
	}
	set, problems, err := flags.Parse(d.Data)
	if err != nil || len(problems) > 0 || set.Len() != 3 {
		t.Errorf("the document has %d flags, problems %v, error %v", set.Len(), problems, err)
	}
	if d.Digest != source.Digest(d.Data) || d.Version.Epoch != empty.Version.Epoch || d.Version.Number != empty.Version.Number+4 {
		t.Errorf("version %s after %s and four changes, digest %s", d.Version, empty.Version, d.Digest)
	}
	if d.Modified.IsZero() || !f.Shared() {
		t.Errorf("modified %s, shared %v", d.Modified, f.Shared())
	}
	if again := f.load(); string(again.Data) != string(d.Data) || again.Version != d.Version {
		t.Errorf("loading again returns a different document:\n%s", again.Data)
	}
}

func TestOversizedDocumentIsAnError(t *testing.T) {
	f := newMigratedFixture(t)
	f.exec(`INSERT INTO flagcache.flags (environment, key, definition) SELECT 'shop', i::text, json_build_object('pad', repeat('x', 300000)) FROM generate_series(1, 4) i`)
	var tooLarge *TooLargeError
	if _, err := f.Load(t.Context()); !errors.As(err, &tooLarge) || tooLarge.Limit != flags.MaxSize {
		t.Errorf("loading returns %v", err)
	}
	_, err := f.EditFlag(t.Context(), Author{}, "shop", "a", func(Environment, *Flag) ([]byte, error) { return []byte(on), nil })
	if !errors.As(err, &tooLarge) {
		t.Errorf("adding a flag returns %v", err)
	}
	if _, err := f.Flag(t.Context(), "shop", "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the flag was stored: %v", err)
	}
}

func TestConcurrentMigrations(t *testing.T) {
	uri := postgrestest.Database(t)
	var running sync.WaitGroup
	for range 6 {
		f := newFixture(t, uri)
		running.Go(func() { f.migrate() })
	}
	running.Wait()
	f := newFixture(t, uri)
	f.put("a", on)
	f.migrate()
	if got := f.load(); !strings.Contains(string(got.Data), `"a"`) {
		t.Errorf("migrating again lost the flags: %s", got.Data)
	}
}

// A read-only role can serve existing flags.
func TestReadOnlyRoleCanServe(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	role := f.role()
	f.exec("CREATE ROLE " + role + " LOGIN PASSWORD 'reader-password'")
	f.exec("GRANT USAGE ON SCHEMA flagcache TO " + role)
	f.exec("GRANT SELECT ON flagcache.environments, flagcache.flags, flagcache.migrations TO " + role)
	reader := newFixture(t, strings.Replace(f.uri, "postgres:"+postgrestest.Password, role+":reader-password", 1))
	w := reader.watch()
	w.await(t, f.load().Version)
	if got := reader.load(); got.Digest != f.load().Digest {
		t.Errorf("the read-only role loads %s", got.Data)
	}
	f.put("a", off)
	w.await(t, f.load().Version)

	_, err := reader.EditFlag(t.Context(), Author{Actor: "eve"}, "shop", "a", func(Environment, *Flag) ([]byte, error) { return []byte(on), nil })
	if !hasCode(err, codeInsufficientPrivilege) {
		t.Errorf("writing returns %v", err)
	}
	reader.options.Environment = "elsewhere"
	conn, err := reader.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	if err := reader.ensureSchema(t.Context(), conn); !errors.Is(err, errNoEnvironment) {
		t.Errorf("a missing environment returns %v", err)
	}
}

// Every change of a flag, by whatever client, has a version and an audit row.
func TestEveryChangeIsAudited(t *testing.T) {
	f := newMigratedFixture(t)
	before := f.load().Version
	f.put("a", on)
	f.put("a", on)
	f.put("a", off)
	f.delete("a")
	f.exec("INSERT INTO flagcache.flags (environment, key, definition) VALUES ('shop', 'b', $1::json), ('shop', 'c', $1::json)", on)
	f.exec(`INSERT INTO flagcache.flags (environment, key, definition) VALUES ('shop', 'b', $1::json)
		ON CONFLICT (environment, key) DO UPDATE SET definition = excluded.definition`, off)
	f.exec("DELETE FROM flagcache.flags WHERE key = 'c'")
	f.exec(`UPDATE flagcache.environments SET metadata = '{"a":1}' WHERE name = 'shop'`)
	f.exec("TRUNCATE flagcache.flags")

	entries, _, err := f.Audit(t.Context(), "shop", "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range entries {
		e := entries[len(entries)-1-i]
		got = append(got, strings.Join([]string{e.Action, e.Key, e.Actor, e.RequestID, string(e.Before), string(e.After)}, "|"))
	}
	want := []string{
		"create|a|ann|r1||" + on,
		"update|a|ann|r1|" + on + "|" + off,
		"delete|a|bob|r2|" + off + "|",
		"create|b|postgres|||" + on,
		"create|c|postgres|||" + on,
		"update|b|postgres||" + on + "|" + off,
		"delete|c|postgres||" + on + "|",
		`configure||postgres||{"metadata" : null, "$evaluators" : null}|{"metadata" : {"a":1}, "$evaluators" : null}`,
		"truncate||postgres|||",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the audit differs (-want +got):\n%s", d)
	}
	if after := f.load().Version; after.Number < before.Number+int64(len(want)) {
		t.Errorf("version %s after %s and %d changes", after, before, len(want))
	}
	if page, _, err := f.Audit(t.Context(), "shop", "a", entries[len(entries)-2].ID+1, 1); err != nil || len(page) != 1 || page[0].ID != entries[len(entries)-2].ID {
		t.Errorf("the page of flag a is %v, error %v", page, err)
	}
}

// A change that cannot be audited must fail.
func TestChangeFailsWithoutAudit(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	version := f.load().Version
	f.exec("ALTER TABLE flagcache.audit ADD CHECK (actor <> 'mallory')")
	_, err := f.EditFlag(t.Context(), Author{Actor: "mallory"}, "shop", "a", func(Environment, *Flag) ([]byte, error) { return []byte(off), nil })
	if err == nil {
		t.Error("the change was made without an audit row")
	}
	if got := f.load(); got.Version != version || strings.Contains(string(got.Data), off) {
		t.Errorf("the flags changed: %s, version %s after %s", got.Data, got.Version, version)
	}
}

func TestFlagCannotBeRenamed(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	conn, err := pgx.Connect(t.Context(), f.uri)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(t.Context(), "UPDATE flagcache.flags SET key = 'b'"); err == nil || !strings.Contains(err.Error(), "cannot be renamed") {
		t.Errorf("renaming returns %v", err)
	}
}

// Eight writers increment a counter in one flag concurrently.
func TestConcurrentUpdatesAreNotLost(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("count", `{"n":0}`)
	const writers, times = 8, 25
	var running sync.WaitGroup
	for range writers {
		running.Go(func() {
			for range times {
				_, err := f.EditFlag(t.Context(), Author{Actor: "ann"}, "shop", "count", func(_ Environment, current *Flag) ([]byte, error) {
					var value struct{ N int }
					if err := json.Unmarshal(current.Definition, &value); err != nil {
						return nil, err
					}
					return json.Marshal(map[string]int{"n": value.N + 1})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	got, err := f.Flag(t.Context(), "shop", "count")
	if err != nil || string(got.Definition) != `{"n":200}` {
		t.Errorf("the flag is %v, error %v", got, err)
	}
	if entries, _, err := f.Audit(t.Context(), "shop", "count", 0, 1000); err != nil || len(entries) != 1+writers*times {
		t.Errorf("the audit has %d rows, error %v", len(entries), err)
	}
}
