// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package quarantine keeps a document that ended the operator from ending it again.
//
// Validation has limits, so that no document should be able to; this is what remains if one
// still is, by memory that runs out or a stack that overflows, which no code can recover from.
// While a document is validated, a file with its digest as the name marks it. What is marked
// when the operator starts was being validated when it ended:
//
//	mark -> validate -> remove the mark
//	start with a mark -> its document is refused, wherever it is; all others are validated
//
// The directory must survive a restart of the container, and needs not survive the pod.
package quarantine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/go-logr/logr"
)

// maxRefused is the maximum number of documents that are refused, the last ones: each of them
// is a restart.
const maxRefused = 100

// ErrRefused is the error of a document that was being validated when the operator ended.
var ErrRefused = errors.New("the operator ended while it validated this document, and refuses it until it changes: make its rules and lists smaller")

// Validate returns the problems of a document, or why it cannot be used at all.
type Validate func(ctx context.Context, document []byte) (problems []string, err error)

// Quarantine refuses documents. Its methods must not be called concurrently for the same
// document.
type Quarantine struct {
	directory string
	validate  Validate
	refused   map[string]bool
	log       logr.Logger
}

// New returns a quarantine in a directory, which must exist. It refuses the documents that an
// earlier process left there.
func New(directory string, validate Validate, log logr.Logger) (*Quarantine, error) {
	q := &Quarantine{directory: directory, validate: validate, refused: map[string]bool{}, log: log}
	left, err := q.marks()
	if err != nil {
		return nil, fmt.Errorf("reading the marks of documents: %w", err)
	}
	for i, mark := range left {
		if i >= maxRefused {
			q.remove(mark.Name())
			continue
		}
		q.refused[mark.Name()] = true
	}
	const trial = "writable"
	if err := q.mark(trial); err != nil {
		return nil, fmt.Errorf("marking documents: %w", err)
	}
	q.remove(trial)
	if len(left) > 0 {
		log.Info("Refusing documents that were being validated when the operator ended, until they change", "number", len(q.refused), "last", left[0].Name())
	}
	return q, nil
}

// marks returns the marks in the directory, the last one first.
func (q *Quarantine) marks() ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(q.directory)
	if err != nil {
		return nil, err
	}
	var marks []fs.FileInfo
	for _, entry := range entries {
		if !digests.MatchString(entry.Name()) {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		marks = append(marks, info)
	}
	slices.SortFunc(marks, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	return marks, nil
}

// digests are the names of marks: a SHA-256 in hexadecimal.
var digests = regexp.MustCompile("^[0-9a-f]{64}$")

// Validate validates a document unless it is refused.
func (q *Quarantine) Validate(ctx context.Context, document []byte) ([]string, error) {
	sum := sha256.Sum256(document)
	digest := hex.EncodeToString(sum[:])
	if q.refused[digest] {
		return nil, ErrRefused
	}
	if err := q.mark(digest); err != nil {
		q.log.Error(err, "Validating a document without a mark", "digest", digest)
		return q.validate(ctx, document)
	}
	defer q.remove(digest)
	return q.validate(ctx, document)
}

func (q *Quarantine) mark(name string) error {
	return os.WriteFile(filepath.Join(q.directory, name), nil, 0o600)
}

func (q *Quarantine) remove(name string) {
	if err := os.Remove(filepath.Join(q.directory, name)); err != nil {
		q.log.Error(err, "Removing the mark of a document", "digest", name)
	}
}
