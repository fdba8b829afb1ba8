// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/redistest"
)

// publish writes published flags to a directory, and returns the path of the manifest.
func publish(t *testing.T, dir, store, content string) string {
	t.Helper()
	return publishAs(t, dir, store, 7, content)
}

// publishAs publishes flags under a number.
func publishAs(t *testing.T, dir, store string, number int, content string) string {
	t.Helper()
	var document bytes.Buffer
	w := gzip.NewWriter(&document)
	if _, err := w.Write([]byte(content)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"version":1,"store":%q,"current":{"number":%d,"digest":"%x"}}`, store, number, sha256.Sum256([]byte(content)))
	path := filepath.Join(dir, config.FlagsManifestKey)
	for file, data := range map[string][]byte{filepath.Join(dir, config.FlagsDocumentKey): document.Bytes(), path: []byte(manifest)} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestServesPublishedFlags(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, "FLAGS_MANIFEST="+filepath.Join(dir, config.FlagsManifestKey), "FLAGS_FILE="+flagsFile(t, "{"), "FLAGS_STORE=flagcache:shop/demo")
	if status, body := p.get("/readyz"); status != 503 {
		t.Errorf("nothing is published, and /readyz answers %d %s", status, body)
	}
	publish(t, dir, "flagcache:shop/other", validFlags)
	redistest.Eventually(t, 10*time.Second, "the flags of another FlagCache are not read", func() bool {
		_, metrics := p.get("/metrics")
		return !strings.Contains(metrics, "\nflag_source_loads_total{result=\"error\"} 1\n")
	})
	publish(t, dir, "flagcache:shop/demo", validFlags)
	p.awaitReady(true)
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("the evaluation is answered with %d %s", status, body)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	if !strings.Contains(p.logs.String(), `flagcache:shop/other`) {
		t.Error("the log does not name the other FlagCache")
	}
}
