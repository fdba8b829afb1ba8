// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
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

// next is the version after one.
func next(v source.Version) source.Version {
	return source.Version{Epoch: v.Epoch, Number: v.Number + 1}
}

// seldom polls so seldom that only a notification can be what is seen.
func (f *fixture) seldom() *fixture {
	f.options.Poll = time.Hour
	return f
}

func TestWatchingMigratesAndSaysWhatIsThere(t *testing.T) {
	f := aStore(t, postgrestest.Database(t))
	f.load()
	got := f.watch().await(t, source.Version{Number: 1})
	if want := f.load().Version; got != want {
		t.Errorf("version %s was announced, %s is there", got, want)
	}
}

func TestAChangeIsAnnounced(t *testing.T) {
	f := migrated(t).seldom()
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

func TestALostNotificationIsMadeUpFor(t *testing.T) {
	f := migrated(t)
	w := f.watch()
	v := w.await(t, f.load().Version)
	f.exec("ALTER TABLE flagcache.environments DISABLE TRIGGER announce")
	f.put("a", on)
	w.await(t, next(v))
}

func TestATerminatedConnectionIsReplaced(t *testing.T) {
	f := migrated(t).seldom()
	w := f.watch()
	v := w.await(t, f.load().Version)
	f.exec("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	f.put("a", on)
	w.await(t, next(v))
	f.load()
}

func TestADatabaseThatIsKilledAndComesBack(t *testing.T) {
	server := postgrestest.Start(t)
	f := aStore(t, server.Database(t))
	w := f.watch()
	v := w.await(t, source.Version{Number: 1})
	f.put("a", on)
	v = w.await(t, next(v))
	server.Kill()
	if _, err := f.Load(t.Context()); err == nil || strings.Contains(err.Error(), postgrestest.Password) {
		t.Errorf("loading from a dead database gives %v", err)
	}
	server.Restart(t)
	f.put("a", off)
	w.await(t, next(v))
	if got := f.load(); !strings.Contains(string(got.Data), off) {
		t.Errorf("the document is %s", got.Data)
	}
	if got := strings.Count(f.log.String(), "watching the database again"); got != 1 {
		t.Errorf("it is said %d times that the database is back:\n%s", got, f.log)
	}
}

// hole passes connections on until it swallows everything.
type hole struct {
	net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
	stuck bool
}

func aHole(t *testing.T, to string) *hole {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{Listener: listener, to: to}
	go h.accept()
	t.Cleanup(func() { listener.Close(); h.each(func(c net.Conn) { c.Close() }) })
	return h
}

func (h *hole) accept() {
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

func (h *hole) pass(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		h.mu.Lock()
		stuck := h.stuck
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

// swallow has everything from now on vanish, or not.
func (h *hole) swallow(stuck bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stuck = stuck
}

func (h *hole) each(do func(net.Conn)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		do(c)
	}
}

// A connection whose other end is gone without a word says nothing, as one
// without changes does.
func TestASilentConnectionIsNoticed(t *testing.T) {
	uri := postgrestest.Database(t)
	parsed, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	h := aHole(t, parsed.Host)
	f := aStore(t, strings.Replace(uri, parsed.Host, h.Addr().String(), 1))
	w := f.watch()
	v := w.await(t, source.Version{Number: 1})
	h.swallow(true)
	direct := aStore(t, uri)
	direct.put("a", on)
	for f.log.String() == "" {
		select {
		case <-w.versions:
		case <-time.After(10 * time.Millisecond):
		}
	}
	h.swallow(false)
	w.await(t, next(v))
}

func TestAStoreThatWentBackGetsANewEpoch(t *testing.T) {
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
			f := migrated(t)
			for range 5 {
				f.put("a", on)
				f.put("a", off)
			}
			w := f.watch()
			before := w.await(t, f.load().Version)
			goBack(f, before)
			after := w.await(t, source.Version{Epoch: before.Epoch + 1})
			if got := f.load().Version; got.Compare(after) < 0 || got.Compare(before) <= 0 {
				t.Errorf("the document has version %s; %s was before, %s was announced", got, before, after)
			}
			if !strings.Contains(f.log.String(), "the database went back") {
				t.Errorf("nobody is told:\n%s", f.log)
			}
		})
	}
}

func TestAnotherURIIsFollowed(t *testing.T) {
	first, second := postgrestest.Database(t), postgrestest.Database(t)
	other := aStore(t, second)
	other.migrate()
	other.put("a", on)
	f := aStore(t, first)
	w := f.watch()
	w.await(t, source.Version{Number: 1})
	if err := os.WriteFile(f.options.URIFile, []byte("postgres://nobody:half-writ"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.options.URIFile, []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	w.await(t, other.load().Version)
	if got := f.load(); got.Digest != other.load().Digest {
		t.Errorf("it loads %s", got.Data)
	}
	if strings.Contains(f.log.String(), postgrestest.Password) {
		t.Errorf("the log holds the password:\n%s", f.log)
	}
}

// Nothing need be there at the start, and nothing is left at the end.
func TestWhatCannotBeReachedIsTriedAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("", func(t *testing.T) {
		uri := postgrestest.Database(t)
		f := aStore(t, uri)
		if err := os.Remove(f.options.URIFile); err != nil {
			t.Fatal(err)
		}
		w := f.watch()
		if _, err := f.Load(t.Context()); err == nil {
			t.Error("something was loaded from nowhere")
		}
		if err := os.WriteFile(f.options.URIFile, []byte(strings.Replace(uri, postgrestest.Password, "wrong-s3cret", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := f.Load(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a wrong password gives %v", err)
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

func TestABadURIIsNotRepeated(t *testing.T) {
	for _, uri := range []string{
		"", "host=db password=s3cret", "mysql://u:s3cret@db", "postgres://u:s3cret/@db/x", "postgres://u:s3cret%zz@db/x", "postgres://u:s3cret@db:port/x",
		"postgres://u:s3cret@db/x?sslmode=s3cret", "postgres://u:s3cret@db/x?sslrootcert=/absent/ca.crt", strings.Repeat("postgres://s3cret", 1000),
	} {
		f := aStore(t, uri)
		_, err := f.connect(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.40q gives %v", uri, err)
		}
		if strings.Contains(uri, "absent") && !strings.Contains(err.Error(), "/absent/ca.crt") {
			t.Errorf("the missing file is not named: %v", err)
		}
	}
}
