// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/config"
)

// compressed returns data compressed with gzip.
func compressed(t *testing.T, data string) string {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	_, err := w.Write([]byte(data))
	must(t, err)
	must(t, w.Close())
	return buffer.String()
}

// manifestOf returns the manifest of a document.
func manifestOf(number int64, store, document string) string {
	return fmt.Sprintf(`{"version":1,"store":%q,"current":{"number":%d,"digest":%q,"publishedAt":"2026-06-01T12:00:00Z"}}`, store, number, Digest([]byte(document)))
}

// publish replaces a mounted ConfigMap as the kubelet does.
func publish(t *testing.T, dir, version string, number int64, document string) {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, version), 0o755))
	put(t, filepath.Join(dir, version, config.FlagsManifestKey), manifestOf(number, "flagcache:shop/demo", document))
	put(t, filepath.Join(dir, version, config.FlagsDocumentKey), compressed(t, document))
	must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for _, key := range []string{config.FlagsManifestKey, config.FlagsDocumentKey} {
		if _, err := os.Lstat(filepath.Join(dir, key)); err != nil {
			must(t, os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key)))
		}
	}
}

func newPublished(t *testing.T, dir string) *Published {
	return NewPublished(filepath.Join(dir, config.FlagsManifestKey), "flagcache:shop/demo", 1000, time.Hour, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func TestPublishedDocumentIsRead(t *testing.T) {
	dir := t.TempDir()
	source := newPublished(t, dir)
	if _, err := source.Load(t.Context()); err == nil {
		t.Error("nothing is mounted, and there is no error")
	}
	publish(t, dir, "..2026_01", 7, "one")
	got, err := source.Load(t.Context())
	want := State{Store: "flagcache:shop/demo", Version: Version{Epoch: PublishedEpoch, Number: 7}}
	if err != nil || string(got.Data) != "one" || got.State != want || got.Digest != Digest([]byte("one")) || got.Modified.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
	publish(t, dir, "..2026_02", 8, "two")
	if got, err := source.Load(t.Context()); err != nil || string(got.Data) != "two" || got.Version.Number != 8 {
		t.Errorf("got %+v, %v", got, err)
	}
	if source.Shared() {
		t.Error("each instance has its own mount")
	}
}

func TestUnusablePublishedDocuments(t *testing.T) {
	const store = "flagcache:shop/demo"
	good := compressed(t, "one")
	tests := map[string]struct{ manifest, document, says string }{
		"no JSON":              {"{", good, "decoding the manifest"},
		"a larger manifest":    {strings.Repeat(" ", maxManifest+1), good, "the limit is"},
		"another version":      {strings.Replace(manifestOf(1, store, "one"), `"version":1`, `"version":2`, 1), good, "has version 2"},
		"no store":             {manifestOf(1, "", "one"), good, "store"},
		"another store":        {manifestOf(1, "flagcache:shop/other", "one"), good, `expected "flagcache:shop/demo"`},
		"no number":            {manifestOf(0, store, "one"), good, "the number is 0"},
		"another document":     {manifestOf(1, store, "two"), good, "the digest"},
		"no gzip":              {manifestOf(1, store, "one"), "one", "decompressing"},
		"a damaged document":   {manifestOf(1, store, "one"), good[:len(good)-3], "decompressing"},
		"a document too large": {manifestOf(1, store, strings.Repeat("x", 1001)), compressed(t, strings.Repeat("x", 1001)), "more than 1000 bytes"},
		"no document":          {manifestOf(1, store, "one"), "", "no such file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, config.FlagsManifestKey), test.manifest)
			if test.document != "" {
				put(t, filepath.Join(dir, config.FlagsDocumentKey), test.document)
			}
			_, err := newPublished(t, dir).Load(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an error that says %q", err, test.says)
			}
		})
	}
}
