// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/source"
)

// next returns the version after v.
func next(v source.Version) source.Version {
	return source.Version{Epoch: v.Epoch, Number: v.Number + 1}
}

// withoutPolling disables polling in effect, so that changes are only detected
// by notifications.
func (f *fixture) withoutPolling() *fixture {
	f.options.Poll = time.Hour
	return f
}

func TestWatchMigratesAndReportsTheVersion(t *testing.T) {
	f := newFixture(t, postgrestest.Database(t))
	f.load()
	got := f.watch().await(t, source.Version{Number: 1})
	if want := f.load().Version; got != want {
		t.Errorf("version %s was reported, not %s", got, want)
	}
}

func TestChangesAreNotified(t *testing.T) {
	f := newMigratedFixture(t).withoutPolling()
	w := f.watch()
	v := w.await(t, f.load().Version)
	f.exec("INSERT INTO flagcache.environments (name) VALUES ('other')")
	f.put("a", on)
	v = w.await(t, next(v))
	f.exec("UPDATE flagcache.flags SET definition = $1::json WHERE key = 'a'", off)
	v = w.await(t, next(v))
	f.delete("a")
	w.await(t, next(v))
}

func TestPollingCoversLostNotifications(t *testing.T) {
	f := newMigratedFixture(t)
	w := f.watch()
	v := w.await(t, f.load().Version)
	f.exec("ALTER TABLE flagcache.environments DISABLE TRIGGER announce")
	f.put("a", on)
	w.await(t, next(v))
}

func TestVersionIsReadAtOnceOnRequest(t *testing.T) {
	f := newMigratedFixture(t).withoutPolling()
	w := f.watch()
	v := w.await(t, f.load().Version)
	f.exec("ALTER TABLE flagcache.environments DISABLE TRIGGER announce")
	for range 3 {
		f.put("a", on)
		f.Expedite()
		v = w.await(t, next(v))
		f.delete("a")
		f.Expedite()
		v = w.await(t, next(v))
	}
	// The same connection is still notified.
	f.exec("ALTER TABLE flagcache.environments ENABLE TRIGGER announce")
	f.put("a", on)
	w.await(t, next(v))
}

func TestTerminatedConnectionIsReplaced(t *testing.T) {
	f := newMigratedFixture(t).withoutPolling()
	w := f.watch()
	v := w.await(t, f.load().Version)
	f.exec("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	f.put("a", on)
	w.await(t, next(v))
	f.load()
}

func TestReconnectsAfterTheDatabaseIsKilled(t *testing.T) {
	server := postgrestest.Start(t)
	f := newFixture(t, server.Database(t))
	w := f.watch()
	v := w.await(t, source.Version{Number: 1})
	f.put("a", on)
	v = w.await(t, next(v))
	server.Kill()
	if _, err := f.Load(t.Context()); err == nil || strings.Contains(err.Error(), postgrestest.Password) {
		t.Errorf("loading from a killed database returns %v", err)
	}
	server.Restart(t)
	f.put("a", off)
	w.await(t, next(v))
	if got := f.load(); !strings.Contains(string(got.Data), off) {
		t.Errorf("the document is %s", got.Data)
	}
	if got := strings.Count(f.log.String(), "watching the database again"); got != 1 {
		t.Errorf("the recovery was logged %d times:\n%s", got, f.log)
	}
}

// blackHole is a proxy that can drop all traffic.
type blackHole struct {
	net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	dropping bool
}

func newBlackHole(t *testing.T, to string) *blackHole {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &blackHole{Listener: listener, to: to}
	go h.accept()
	t.Cleanup(func() { listener.Close(); h.each(func(c net.Conn) { c.Close() }) })
	return h
}

func (h *blackHole) accept() {
	for {
		in, err := h.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", h.to)
		if err != nil {
			in.Close()
			continue
		}
		h.mu.Lock()
		h.conns = append(h.conns, in, out)
		h.mu.Unlock()
		go h.pass(in, out)
		go h.pass(out, in)
	}
}

func (h *blackHole) pass(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		h.mu.Lock()
		stuck := h.dropping
		h.mu.Unlock()
		if err != nil {
			to.Close()
			return
		}
		if !stuck {
			_, _ = to.Write(buffer[:n])
		}
	}
}

// drop starts or stops dropping all traffic.
func (h *blackHole) drop(stuck bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropping = stuck
}

func (h *blackHole) each(do func(net.Conn)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		do(c)
	}
}

// A dead connection is as silent as one without changes.
func TestDeadConnectionIsDetected(t *testing.T) {
	uri := postgrestest.Database(t)
	parsed, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	h := newBlackHole(t, parsed.Host)
	f := newFixture(t, strings.Replace(uri, parsed.Host, h.Addr().String(), 1))
	w := f.watch()
	v := w.await(t, source.Version{Number: 1})
	h.drop(true)
	direct := newFixture(t, uri)
	direct.put("a", on)
	for f.log.String() == "" {
		select {
		case <-w.versions:
		case <-time.After(10 * time.Millisecond):
		}
	}
	h.drop(false)
	w.await(t, next(v))
}

func TestRestoredDatabaseGetsANewEpoch(t *testing.T) {
	tests := map[string]func(f *fixture, seen source.Version){
		"another table, as after a dump was restored": func(f *fixture, _ source.Version) {
			f.exec("UPDATE flagcache.environments SET incarnation = '1.2', version = 3")
		},
		"a lower version": func(f *fixture, _ source.Version) { f.exec("UPDATE flagcache.environments SET version = 3") },
		"an older epoch": func(f *fixture, seen source.Version) {
			f.exec("UPDATE flagcache.environments SET epoch = $1", seen.Epoch-5)
		},
	}
	for name, goBack := range tests {
		t.Run(name, func(t *testing.T) {
			f := newMigratedFixture(t)
			for range 5 {
				f.put("a", on)
				f.put("a", off)
			}
			w := f.watch()
			before := w.await(t, f.load().Version)
			goBack(f, before)
			after := w.await(t, source.Version{Epoch: before.Epoch + 1})
			if got := f.load().Version; got.Compare(after) < 0 || got.Compare(before) <= 0 {
				t.Errorf("the document has version %s; it was %s before, and %s was reported", got, before, after)
			}
			if !strings.Contains(f.log.String(), "the database was reset") {
				t.Errorf("the reset was not logged:\n%s", f.log)
			}
		})
	}
}

func TestURIChangeIsApplied(t *testing.T) {
	first, second := postgrestest.Database(t), postgrestest.Database(t)
	other := newFixture(t, second)
	other.migrate()
	other.put("a", on)
	f := newFixture(t, first)
	w := f.watch()
	w.await(t, source.Version{Number: 1})
	if err := os.WriteFile(f.options.URIFile, []byte("postgres://nobody:half-written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.options.URIFile, []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	w.await(t, other.load().Version)
	if got := f.load(); got.Digest != other.load().Digest {
		t.Errorf("the document is %s", got.Data)
	}
	if strings.Contains(f.log.String(), postgrestest.Password) {
		t.Errorf("the log contains the password:\n%s", f.log)
	}
}

// Nothing is reachable at the start, and no goroutine is left at the end.
func TestUnreachableDatabaseIsRetried(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("", func(t *testing.T) {
		uri := postgrestest.Database(t)
		f := newFixture(t, uri)
		if err := os.Remove(f.options.URIFile); err != nil {
			t.Fatal(err)
		}
		w := f.watch()
		if _, err := f.Load(t.Context()); err == nil {
			t.Error("loading succeeded without a URI")
		}
		if err := os.WriteFile(f.options.URIFile, []byte(strings.Replace(uri, postgrestest.Password, "wrong-s3cret", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := f.Load(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a wrong password returns %v", err)
		}
		if err := os.WriteFile(f.options.URIFile, []byte(uri), 0o600); err != nil {
			t.Fatal(err)
		}
		w.await(t, source.Version{Number: 1})
		if text := f.log.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "cannot watch the database") {
			t.Errorf("the log is\n%s", text)
		}
	})
}

// Whoever is between the service and the database must not decide about encryption.
func TestURIMustDecideAboutEncryption(t *testing.T) {
	for parameters, accepted := range map[string]bool{
		"": false, "?sslmode=": false, "?sslmode=allow": false, "?sslmode=prefer": false, "?application_name=sslmode": false,
		"?sslmode=disable": true, "?sslmode=require": true, "?sslmode=verify-full": true, "?connect_timeout=5&sslmode=verify-ca": true,
	} {
		_, err := parseURI("postgres://u:s3cret@db/x" + parameters)
		if refused := errors.Is(err, errNoSSLMode); refused == accepted || accepted && err != nil {
			t.Errorf("%q: %v, want accepted: %t", parameters, err, accepted)
		}
	}
}

func TestInvalidURIIsNotLeaked(t *testing.T) {
	for _, uri := range []string{
		"", "host=db password=s3cret", "mysql://u:s3cret@db", "postgres://u:s3cret/@db/x", "postgres://u:s3cret%zz@db/x", "postgres://u:s3cret@db:port/x",
		"postgres://u:s3cret@db/x?sslmode=s3cret", "postgres://u:s3cret@db/x?sslrootcert=/absent/ca.crt", strings.Repeat("postgres://s3cret", 1000),
		"postgres://u:12/s3cret@db/x?sslmode=disable", "postgres://u:12?s3cret@db/x&sslmode=disable", "postgres://u:12#s3cret@db/x?sslmode=disable",
		"postgres://u:1@2/s3cret@db/x?sslmode=disable", "postgres://u:/s3cret@db/x?sslmode=disable",
	} {
		f := newFixture(t, uri)
		_, err := f.connect(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.40q returns %v", uri, err)
		}
		if strings.Contains(uri, "absent") && !strings.Contains(err.Error(), "/absent/ca.crt") {
			t.Errorf("the missing file is not named: %v", err)
		}
	}
}
