// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/flagcache/flagcache/service/filewatch"
)

// DefaultPoll is the default interval at which a file is read without a
// notification.
const DefaultPoll = 5 * time.Second

// File is a source that reads a document from a file, which each instance has
// for itself.
type File struct {
	path    string
	maxSize int64
	poll    time.Duration
	log     *slog.Logger
}

// NewFile returns the source for a path. The file need not exist yet; one larger
// than maxSize bytes is an error. It is read when its directory changes and at
// every poll interval.
func NewFile(path string, maxSize int64, poll time.Duration, log *slog.Logger) *File {
	return &File{path: path, maxSize: maxSize, poll: poll, log: log}
}

// Watch implements Source. It reports the zero State, because a file's
// version is only known once it is read.
func (f *File) Watch(ctx context.Context, changed func(State)) {
	dirs := []string{filepath.Dir(f.path)}
	filewatch.Watch(ctx, f.log, dirs, f.poll, nil, func() { changed(State{}) })
}

// Load implements Source.
func (f *File) Load(context.Context) (Document, error) { return ReadFile(f.path, f.maxSize) }

// Shared implements Source: each instance has its own file.
func (f *File) Shared() bool { return false }

// ReadFile reads a document from a file once; its version is the file's
// modification time. A file larger than maxSize bytes is an error, and so is
// anything but a regular file: opening a named pipe would block for ever.
func ReadFile(path string, maxSize int64) (Document, error) {
	data, modified, err := readRegular(path, maxSize)
	if err != nil {
		return Document{}, fmt.Errorf("reading the flags file: %w", err)
	}
	return Document{Data: data, Digest: Digest(data), State: State{Version: Version{Number: modified.UnixNano()}}, Modified: modified}, nil
}

func readRegular(path string, maxSize int64) ([]byte, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > maxSize {
		return nil, time.Time{}, fmt.Errorf("%s has %d bytes; the limit is %d", path, info.Size(), maxSize)
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
		return nil, time.Time{}, fmt.Errorf("%s has grown to more than %d bytes, the limit", path, maxSize)
	}
	return data, info.ModTime(), nil
}
