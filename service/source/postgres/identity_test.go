// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/source"
)

// role returns the name of a role for the fixture's database.
func (f *fixture) role() string {
	uri, _, _ := strings.Cut(f.uri, "?")
	return "reader" + strings.TrimPrefix(filepath.Base(uri), "test")
}

// reader returns a store on the same database with a role that may only read.
func (f *fixture) reader() *fixture {
	f.t.Helper()
	role := f.role()
	f.exec("CREATE ROLE " + role + " LOGIN PASSWORD 'reader-password'")
	f.exec("GRANT USAGE ON SCHEMA flagcache TO " + role)
	f.exec("GRANT SELECT ON flagcache.environments, flagcache.flags, flagcache.migrations TO " + role)
	return newFixture(f.t, strings.Replace(f.uri, "postgres:"+postgrestest.Password, role+":reader-password", 1))
}

// TestStateIdentifiesTheDocument resets the version of a document and changes it
// again, so that two documents have the same version.
func TestStateIdentifiesTheDocument(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	first := f.load()
	if again := f.load(); again.State != first.State || first.Store == "" || first.Tag == "" || first.Lagging {
		t.Errorf("the document is identified by %+v, then by %+v", first.State, again.State)
	}
	f.put("a", off)
	second := f.load()
	if second.Store != first.Store || second.Tag == first.Tag || second.Confirms(first.State) {
		t.Errorf("after a change, %+v follows %+v", second.State, first.State)
	}
	f.exec("UPDATE flagcache.environments SET version = $1", first.Version.Number-1)
	f.put("a", `{"state":"DISABLED","variants":{"x":1}}`)
	if reset := f.load(); reset.Version != first.Version || reset.Confirms(first.State) {
		t.Errorf("after a reset, %+v follows %+v", reset.State, first.State)
	}
	states := make(chan source.State, 100)
	conn, err := f.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	w := &watcher{store: f.Store, changed: func(s source.State) { states <- s }}
	if err := w.poll(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if got, want := <-states, f.load().State; got != want {
		t.Errorf("the watcher reports %+v, and a document is %+v", got, want)
	}
}

// TestDatabasesAreDistinguished has databases of one server, and of two.
func TestDatabasesAreDistinguished(t *testing.T) {
	stores := map[string]bool{}
	another := postgrestest.Start(t)
	for _, uri := range []string{postgrestest.Database(t), postgrestest.Database(t), another.Database(t)} {
		f := newFixture(t, uri)
		f.migrate()
		stores[f.load().Store] = true
	}
	if len(stores) != 3 {
		t.Errorf("three databases are identified as %v", stores)
	}
}

// TestReaderIdentifiesTheStore has a role that only reads, also where it may not
// read the identifier of the server.
func TestReaderIdentifiesTheStore(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	r := f.reader()
	if got, want := r.load().State, f.load().State; got != want {
		t.Errorf("the reader identifies the document by %+v, not %+v", got, want)
	}
	f.exec("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
	if got, want := r.load().State, f.load().State; got != want || strings.Contains(got.Store, "schema-") {
		t.Errorf("without the right to read the identifier, the reader identifies the document by %+v, not %+v", got, want)
	}
	// The right of the owner decides, for all.
	before := f.load().State
	f.exec("ALTER FUNCTION flagcache.store() OWNER TO " + r.role())
	got, want := r.load().State, f.load().State
	if got != want || !strings.HasPrefix(got.Store, "postgres:schema-") {
		t.Errorf("an owner without the right identifies the document by %+v, and others by %+v", got, want)
	}
	if !got.SameStore(before) || !before.SameStore(got) {
		t.Errorf("the store of %+v is taken for another one than that of %+v", got, before)
	}
	if other := (source.State{Store: "postgres:1:2", Former: "postgres:schema-1:2"}); got.SameStore(other) || other.SameStore(got) {
		t.Errorf("the store of %+v is taken for that of %+v", got, other)
	}
}

// downgrade restores the schema of the release without the identity of documents.
func (f *fixture) downgrade() {
	f.exec(`DROP TRIGGER environment_tag ON flagcache.environments; DROP FUNCTION flagcache.environment_tag();
		ALTER TABLE flagcache.environments DROP COLUMN tag; DROP FUNCTION flagcache.store(); DROP FUNCTION flagcache.former_store();
		DELETE FROM flagcache.migrations WHERE version > 1`)
}

// TestMigrationDoesNotWaitForADump has a dump that reads the tables while the first
// instance of this release starts. It serves the flags meanwhile, and migrates later.
func TestMigrationDoesNotWaitForADump(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	f.downgrade()
	dump, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dump.Exec(t.Context(), "LOCK TABLE flagcache.environments, flagcache.flags IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	upgraded := newFixture(t, f.uri)
	w := upgraded.watch()
	w.await(t, source.Version{Number: 1})
	if got := upgraded.load(); got.Store != "" || !strings.Contains(string(got.Data), `"a"`) {
		t.Errorf("the document is %+v", got)
	}
	if log := upgraded.log.String(); !strings.Contains(log, "cannot be migrated now") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log is %s", log)
	}
	if err := dump.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 30*time.Second, "the schema is not migrated after the dump", func() bool {
		// A read that began before the migration does not see the table that it rewrote.
		document, err := upgraded.Load(t.Context())
		return err == nil && document.Store != ""
	})
}

// TestLatestMigration compares the constant with the files.
func TestLatestMigration(t *testing.T) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(files) != latestMigration {
		t.Errorf("the migrations are %v (%v), and the latest is %d", files, err, latestMigration)
	}
}

// TestReaderServesTheSchemaOfAnEarlierRelease upgrades an instance that may only
// read before one that may migrate.
func TestReaderServesTheSchemaOfAnEarlierRelease(t *testing.T) {
	f := newMigratedFixture(t)
	f.put("a", on)
	f.downgrade()
	r := f.reader()
	w := r.watch()
	w.await(t, source.Version{Number: 1})
	got := r.load()
	if got.Store != "" || got.Tag != "" || !strings.Contains(string(got.Data), `"a"`) {
		t.Errorf("the document is %+v", got)
	}
	if !strings.Contains(r.log.String(), "the schema is of an earlier release") {
		t.Errorf("the log is %s", r.log)
	}
	upgraded := newFixture(t, f.uri)
	upgraded.migrate()
	if state := upgraded.load().State; state.Store == "" || state.Tag == "" {
		t.Errorf("after the migration the document is %+v", state)
	}
	// The reader notices the migration with the next poll.
	upgraded.put("a", off)
	w.await(t, upgraded.load().Version)
	if got, want := r.load().State, upgraded.load().State; got != want {
		t.Errorf("after the migration the reader identifies the document by %+v, not %+v", got, want)
	}
}
