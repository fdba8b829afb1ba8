// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noPoll is a poll interval longer than any test: every read follows a
// notification.
const noPoll = time.Hour

// fileRecorder runs a file source and records a read for each reported change.
type fileRecorder struct {
	file  *File
	reads chan readResult
}

type readResult struct {
	Document
	err error
}

func recordFile(t *testing.T, path string, poll time.Duration) *fileRecorder {
	t.Helper()
	w := &fileRecorder{
		file:  NewFile(path, 64, poll, slog.New(slog.NewTextHandler(t.Output(), nil))),
		reads: make(chan readResult, 100),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		w.file.Watch(ctx, func(State) {
			document, err := w.file.Load(ctx)
			w.reads <- readResult{document, err}
		})
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	return w
}

// await waits for a document with the given content, or an error that contains
// it.
func (w *fileRecorder) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	last := readResult{}
	for {
		select {
		case last = <-w.reads:
			if string(last.Data) == want || last.err != nil && strings.Contains(last.err.Error(), want) {
				return
			}
		case <-deadline:
			t.Fatalf("%q was not read; the last read was %q, %v", want, last.Data, last.err)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFileChangesAreDetected(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "flags.json")
	w := recordFile(t, path, noPoll)
	w.await(t, "no such file")
	put(t, path, "created")
	w.await(t, "created")
	put(t, path, "rewritten in place")
	w.await(t, "rewritten in place")
	put(t, path+".tmp", "renamed over it")
	must(t, os.Rename(path+".tmp", path))
	w.await(t, "renamed over it")
	must(t, os.Remove(path))
	w.await(t, "no such file")
	put(t, path, "created again")
	w.await(t, "created again")
}

// mount writes a document as the kubelet does: into a new directory, at which
// the symlink ..data is then pointed.
func mount(t *testing.T, dir, version, text string) {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, version), 0o755))
	put(t, filepath.Join(dir, version, "flags.json"), text)
	must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

func TestConfigMapUpdatesAreDetected(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "..2026_01", "one")
	path := filepath.Join(dir, "flags.json")
	must(t, os.Symlink(filepath.Join("..data", "flags.json"), path))
	w := recordFile(t, path, noPoll)
	w.await(t, "one")
	mount(t, dir, "..2026_02", "two")
	w.await(t, "two")
	must(t, os.RemoveAll(filepath.Join(dir, "..2026_01")))
	mount(t, dir, "..2026_03", "three")
	w.await(t, "three")
}

func TestPollDetectsUnnotifiedChanges(t *testing.T) {
	real := filepath.Join(t.TempDir(), "real.json")
	path := filepath.Join(t.TempDir(), "later", "flags.json")
	w := recordFile(t, path, 10*time.Millisecond)
	w.await(t, "no such file")
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	put(t, real, "one")
	must(t, os.Symlink(real, path))
	w.await(t, "one")
	// The directory of the link does not change when the linked file does.
	put(t, real, "two")
	w.await(t, "two")
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	put(t, path, strings.Repeat("x", 64))
	first, err := ReadFile(path, 64)
	if err != nil || len(first.Data) != 64 || len(first.Digest) != 64 || first.Modified.IsZero() {
		t.Errorf("unexpected document: %+v", first)
	}
	put(t, path, strings.Repeat("y", 64))
	if second, _ := ReadFile(path, 64); second.Digest == first.Digest {
		t.Error("different documents have the same digest")
	}
	put(t, path, strings.Repeat("x", 65))
	if _, err := ReadFile(path, 64); err == nil || !strings.Contains(err.Error(), "has 65 bytes; the limit is 64") {
		t.Errorf("reading a file over the limit: %v", err)
	}
	if _, err := ReadFile(filepath.Dir(path), 64); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("reading a directory: %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	if _, err := ReadFile(pipe, 64); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("reading a named pipe: %v", err)
	}
}
