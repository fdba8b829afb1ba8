// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLastGoodFlagsSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "last-good")
	kept := func(o *snapshot.Options) { o.LastGoodFile = file }
	d := newDatabase(document(7))
	share(t, d, "", kept).awaitValue("7")
	redistest.Eventually(t, soon, "the file was not written", func() bool { _, err := os.Stat(file); return err == nil })
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}

	restarted := newDatabase(document(8))
	restarted.err = errors.New("unreachable")
	next := share(t, restarted, "", kept)
	next.awaitValue("7")
	next.awaitOrigin(snapshot.OriginLastGood)
	redistest.Eventually(t, soon, "the age is not counted from when the file was written", func() bool { return next.Age() >= time.Hour })
	// Any document from the source takes precedence, even an older version.
	restarted.set(func() { restarted.err = nil })
	next.awaitValue("8")
	other := share(t, restarted, "", kept, func(o *snapshot.Options) { o.Environment = "other" })
	other.awaitLog("ignoring the last good flags")
}

// TestLastGoodWriteFailureIsCounted is C37.
func TestLastGoodWriteFailureIsCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "no such directory", "last-good")
	i := share(t, newDatabase(document(1)), "", func(o *snapshot.Options) { o.LastGoodFile = file })
	i.awaitValue("1")
	i.awaitLog("cannot save the last good flags")
	redistest.Eventually(t, soon, "the failure was not counted", func() bool { return i.counter("flag_last_good_write_failures_total") == 1 })
}
