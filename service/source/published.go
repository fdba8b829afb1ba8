// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/filewatch"
)

// PublishedEpoch is the epoch of published documents. The versions of files have epoch 0, so
// that a published document precedes no file of the same store.
const PublishedEpoch = 1

// maxManifest limits the size of a manifest in bytes.
const maxManifest = 64 << 10

// Published is a source that reads the document that a manifest describes, as the operator
// publishes it in a ConfigMap. The document has a number, which orders it among all documents
// of its store, whichever way they arrive.
type Published struct {
	path    string
	store   string
	maxSize int64
	poll    time.Duration
	log     *slog.Logger
}

// NewPublished returns the source for the path of a manifest, of a store unless that is empty.
// The file need not exist yet; a document larger than maxSize bytes is an error. It is read
// when its directory changes and at every poll interval.
func NewPublished(path, store string, maxSize int64, poll time.Duration, log *slog.Logger) *Published {
	return &Published{path: path, store: store, maxSize: maxSize, poll: poll, log: log}
}

// Watch implements Source. It reports the zero State, because a number is only known once
// the manifest is read.
func (p *Published) Watch(ctx context.Context, changed func(State)) {
	filewatch.Watch(ctx, p.log, []string{filepath.Dir(p.path)}, p.poll, nil, func() { changed(State{}) })
}

// Shared implements Source: each instance has its own mount.
func (p *Published) Shared() bool { return false }

// manifest describes what is published.
type manifest struct {
	Version int    `json:"version"`
	Store   string `json:"store"`
	Current struct {
		Number      int64     `json:"number"`
		Digest      string    `json:"digest"`
		PublishedAt time.Time `json:"publishedAt"`
	} `json:"current"`
}

// Load implements Source.
func (p *Published) Load(context.Context) (Document, error) {
	document, err := p.load()
	if err != nil {
		return Document{}, fmt.Errorf("reading the published flags: %w", err)
	}
	return document, nil
}

// load reads manifest and document from the same version of the mount, which a kubelet
// replaces by changing a symbolic link.
func (p *Published) load() (Document, error) {
	path, err := filepath.EvalSymlinks(p.path)
	if err != nil {
		return Document{}, err
	}
	text, _, err := readRegular(path, maxManifest)
	if err != nil {
		return Document{}, err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Document{}, fmt.Errorf("decoding the manifest: %w", err)
	}
	if err := p.check(m); err != nil {
		return Document{}, err
	}
	data, err := readCompressed(filepath.Join(filepath.Dir(path), config.FlagsDocumentKey), p.maxSize)
	if err != nil {
		return Document{}, err
	}
	if digest := Digest(data); digest != m.Current.Digest {
		return Document{}, fmt.Errorf("the document has the digest %s; the manifest has %.64s", digest, m.Current.Digest)
	}
	return Document{
		Data: data, Digest: m.Current.Digest, Modified: m.Current.PublishedAt,
		State: State{Store: m.Store, Version: Version{Epoch: PublishedEpoch, Number: m.Current.Number}},
	}, nil
}

// check returns an error for a manifest that cannot be used.
func (p *Published) check(m manifest) error {
	switch {
	case m.Version != config.FlagsManifestVersion:
		return fmt.Errorf("the manifest has version %d; this release reads version %d", m.Version, config.FlagsManifestVersion)
	case m.Store == "" || p.store != "" && m.Store != p.store:
		return fmt.Errorf("the manifest is that of the store %.253q; expected %q", m.Store, p.store)
	case m.Current.Number < 1:
		return fmt.Errorf("the number is %d; the first is 1", m.Current.Number)
	}
	return nil
}

// readCompressed reads a file that is compressed with gzip. One that is, or expands to, more
// than maxSize bytes is an error.
func readCompressed(path string, maxSize int64) ([]byte, error) {
	compressed, _, err := readRegular(path, maxSize)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("decompressing the document: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("decompressing the document: %w", err)
	case int64(len(data)) > maxSize:
		return nil, fmt.Errorf("the document has more than %d bytes, the limit", maxSize)
	}
	return data, nil
}
