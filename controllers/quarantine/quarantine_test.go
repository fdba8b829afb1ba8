// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/flagcache/flagcache/service/flags"
)

// envDirectory is that of the process which TestMain ends while it validates.
const envDirectory = "QUARANTINE_DIRECTORY"

// deadly ends a process that validates it.
const deadly = `{"flags": {"deadly": 0}}`

func TestMain(m *testing.M) {
	if directory := os.Getenv(envDirectory); directory != "" {
		q, err := New(directory, exhaust, logr.Discard())
		if err == nil {
			_, err = q.Validate(context.Background(), []byte(deadly))
		}
		fmt.Println(err)
		return
	}
	os.Exit(m.Run())
}

// exhaust ends the process as the kernel does when memory runs out.
func exhaust(context.Context, []byte) ([]string, error) {
	return nil, errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("still alive"))
}

// run validates the deadly document in another process.
func run(t *testing.T, directory string) (output string, err error) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), executable)
	command.Env = append(os.Environ(), envDirectory+"="+directory)
	text, err := command.Output()
	return strings.TrimSpace(string(text)), err
}

// TestDocumentThatEndedTheProcessIsRefused: once, in each process after that, and no other.
func TestDocumentThatEndedTheProcessIsRefused(t *testing.T) {
	directory := t.TempDir()
	if output, err := run(t, directory); !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("the process did not end: %v, %s", err, output)
	}
	for range 2 {
		if output, err := run(t, directory); err != nil || output != ErrRefused.Error() {
			t.Errorf("after its restart: %v, %q, want %q", err, output, ErrRefused)
		}
	}
	q := start(t, directory, flags.Validate)
	if _, err := q.Validate(t.Context(), []byte(deadly)); !errors.Is(err, ErrRefused) {
		t.Errorf("the document of another ConfigMap: %v, want %v", err, ErrRefused)
	}
	for _, other := range []string{deadly + " ", `{"flags": {}}`} {
		if _, err := q.Validate(t.Context(), []byte(other)); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func start(t *testing.T, directory string, validate Validate) *Quarantine {
	t.Helper()
	q, err := New(directory, validate, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestValidatedDocumentsAreNotRefused, however their validation ended, as long as the process
// did not.
func TestValidatedDocumentsAreNotRefused(t *testing.T) {
	directory := t.TempDir()
	ends := map[string]Validate{
		"no problem": func(context.Context, []byte) ([]string, error) { return nil, nil },
		"problems":   func(context.Context, []byte) ([]string, error) { return []string{"problem"}, nil },
		"an error":   func(context.Context, []byte) ([]string, error) { return nil, context.DeadlineExceeded },
		"a panic":    func(context.Context, []byte) ([]string, error) { panic("recovered by the controller") },
	}
	for name, validate := range ends {
		func() {
			defer func() { _ = recover() }()
			_, _ = start(t, directory, validate).Validate(t.Context(), []byte(name))
		}()
		if entries, err := os.ReadDir(directory); err != nil || len(entries) > 0 {
			t.Errorf("%s leaves %v, error %v", name, entries, err)
		}
	}
}

// TestRefusedDocumentsAreBounded: the last ones remain.
func TestRefusedDocumentsAreBounded(t *testing.T) {
	directory := t.TempDir()
	begin := time.Now().Add(-time.Hour)
	var digests []string
	for i := range maxRefused + 10 {
		digest := fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, i)))
		digests = append(digests, digest)
		path, at := filepath.Join(directory, digest), begin.Add(time.Duration(i)*time.Second)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(directory, "something-else"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	q := start(t, directory, nil)
	for i, digest := range digests {
		if q.refused[digest] != (i >= 10) {
			t.Errorf("document %d of %d is refused: %v", i, len(digests), q.refused[digest])
		}
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != maxRefused+1 || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "writable" }) {
		t.Errorf("%d files are left", len(entries))
	}
}

// TestUnusableDirectoryIsAnErrorAtTheStart, and later does not keep documents from being
// validated.
func TestUnusableDirectoryIsAnErrorAtTheStart(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "state")
	if _, err := New(directory, nil, logr.Discard()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	q := start(t, directory, flags.Validate)
	if err := os.Remove(directory); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Validate(t.Context(), []byte(`{"flags": {}}`)); err != nil {
		t.Errorf("without its directory: %v", err)
	}
}
