// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/flagcache/flagcache/service/filewatch"
)

// DefaultPoll is how often a file is read without a notification.
const DefaultPoll = 5 * time.Second

// Update is what one look at the source found: a document or an error.
type Update struct {
	// Data is the document's bytes, nil with Err.
	Data []byte
	// Digest is the SHA-256 of Data in hexadecimal: equal documents have equal
	// digests.
	Digest string
	// Modified is when the document was written, as the source has it.
	Modified time.Time
	// Err says why there is no document.
	Err error
}

// File is a document in a file.
type File struct {
	path    string
	maxSize int64
	poll    time.Duration
	log     *slog.Logger
	hint    chan struct{}
}

// NewFile returns the source for a path, whose file need not exist yet. A file
// larger than maxSize bytes is an error. It is read when its directory changes
// and every poll.
func NewFile(path string, maxSize int64, poll time.Duration, log *slog.Logger) *File {
	return &File{path: path, maxSize: maxSize, poll: poll, log: log, hint: make(chan struct{}, 1)}
}

// Run reads the file at once and whenever it may have changed, and delivers what
// it finds each time, also if that is the same as before: then the source has
// confirmed it. It returns when ctx is done.
func (f *File) Run(ctx context.Context, deliver func(Update)) {
	dirs := []string{filepath.Dir(f.path)}
	filewatch.Watch(ctx, f.log, dirs, f.poll, f.hint, func() { deliver(ReadFile(f.path, f.maxSize)) })
}

// Refresh makes Run read the file now. It does not wait.
func (f *File) Refresh() {
	select {
	case f.hint <- struct{}{}:
	default:
	}
}

// ReadFile reads a document from a file once. One larger than maxSize bytes is an
// error, and so is anything but a regular file: opening a named pipe would block
// for ever.
func ReadFile(path string, maxSize int64) Update {
	data, modified, err := readRegular(path, maxSize)
	if err != nil {
		return Update{Err: fmt.Errorf("reading the flags file: %w", err)}
	}
	sum := sha256.Sum256(data)
	return Update{Data: data, Digest: hex.EncodeToString(sum[:]), Modified: modified}
}

func readRegular(path string, maxSize int64) ([]byte, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if int64(len(data)) > maxSize {
		return nil, time.Time{}, fmt.Errorf("%s has more than %d bytes", path, maxSize)
	}
	return data, info.ModTime(), nil
}
