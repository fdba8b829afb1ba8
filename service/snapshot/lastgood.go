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

// lastGoodKey is followed by the environment, in the envelope in the file.
const lastGoodKey = "last_good:"

// mostEnvelope is more than an envelope adds to a document.
const mostEnvelope = 4096

// saveAgain is when a file that could not be written is tried again.
const saveAgain = 30 * time.Second

// serveLastGood serves what the last process left behind, until something better
// comes. Its age counts from when it was written.
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
	// Only here does the wall clock count: the file comes from another process.
	now := r.Now()
	confirmed := now.Add(-max(0, now.Sub(written)))
	r.confirmed.Store(&confirmed)
}

func readLastGood(path, key string) (cache.Entry, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return cache.Entry{}, time.Time{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > flags.MaxSize+mostEnvelope {
		return cache.Entry{}, time.Time{}, errors.New("it is no regular file or too large")
	}
	file, err := os.Open(path)
	if err != nil {
		return cache.Entry{}, time.Time{}, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, flags.MaxSize+mostEnvelope))
	if err != nil {
		return cache.Entry{}, time.Time{}, err
	}
	entry, err := cache.Sealer{}.Open(key, content)
	return entry, info.ModTime(), err
}

// saveLastGood is the step of the loop that keeps the file.
func (r *Refresher) saveLastGood(context.Context) time.Duration {
	current := r.Current()
	if !r.live(current) {
		return 0
	}
	err := writeWhole(r.LastGoodFile, cache.Sealer{}.Seal(lastGoodKey+r.Environment, entryOf(current)))
	if err != nil {
		r.metrics.lastGoodFailures.Inc()
		if !r.unsaved {
			r.Log.Warn("cannot keep the last good flags for the next start", "error", err)
		}
		r.unsaved = true
		return saveAgain
	}
	r.unsaved = false
	return 0
}

// writeWhole puts a file in place at once: whoever reads it, also after a crash,
// finds the old content or the new.
func writeWhole(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("making a new file: %w", err)
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
