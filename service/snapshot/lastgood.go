// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/flags"
)

// lastGoodKey is the prefix of the key in the file's envelope; the environment
// follows.
const lastGoodKey = "last_good:"

// maxEnvelope is an upper bound of the size that an envelope adds to a
// document.
const maxEnvelope = 4096

// saveRetryInterval is the time until a failed write is retried.
const saveRetryInterval = 30 * time.Second

// serveLastGood serves the flags saved by the previous process, until a better
// document is available. Their age counts from when they were written.
func (r *Refresher) serveLastGood() {
	if r.LastGoodFile == "" {
		return
	}
	entry, written, err := readLastGood(r.LastGoodFile, lastGoodKey+r.Environment)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = r.consider(fromEntry(entry, OriginLastGood))
	}
	if err != nil {
		r.Log.Warn("ignoring the last good flags", "file", r.LastGoodFile, "error", err)
		return
	}
	// The wall clock is used here only, because the file was written by another
	// process.
	now := r.Now()
	confirmed := now.Add(-max(0, now.Sub(written)))
	r.confirmed.Store(&confirmed)
}

func readLastGood(path, key string) (cache.Entry, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return cache.Entry{}, time.Time{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > flags.MaxSize+maxEnvelope {
		return cache.Entry{}, time.Time{}, errors.New("it is not a regular file, or too large")
	}
	file, err := os.Open(path)
	if err != nil {
		return cache.Entry{}, time.Time{}, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, flags.MaxSize+maxEnvelope))
	if err != nil {
		return cache.Entry{}, time.Time{}, err
	}
	entry, err := cache.Sealer{}.Open(key, content)
	return entry, info.ModTime(), err
}

// saveLastGood is the step of the loop that saves the last good flags.
func (r *Refresher) saveLastGood(context.Context) time.Duration {
	current := r.Current()
	if !live(current) {
		return 0
	}
	err := writeAtomically(r.LastGoodFile, cache.Sealer{}.Seal(lastGoodKey+r.Environment, entryOf(current)))
	if err != nil {
		r.metrics.lastGoodFailures.Inc()
		if !r.saveFailing {
			r.Log.Warn("cannot save the last good flags", "error", err)
		}
		r.saveFailing = true
		return saveRetryInterval
	}
	r.saveFailing = false
	return 0
}

// writeAtomically replaces a file atomically: readers see the old content or
// the new, even after a crash.
func writeAtomically(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("creating a temporary file: %w", err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(file.Name()))
	}
	return nil
}
