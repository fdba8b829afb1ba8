// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Source is a source of truth. Its methods may be called at the same time, but
// Load never twice at a time.
type Source interface {
	// Watch calls changed whenever the document may have changed, at least once at
	// the start, until ctx is done. Latest is the version that the source has now,
	// or the zero Version where only Load would tell. Calling it again with a version
	// that is known already is cheap and welcome: it confirms that what is served
	// is fresh. A source that cannot be reached is no call.
	Watch(ctx context.Context, changed func(latest Version))
	// Load reads the document once. A document that is too large is an error.
	Load(ctx context.Context) (Document, error)
	// Shared says that all instances read the same store, as with a database, so
	// that one reading is enough for all of them. A file is each instance's own.
	Shared() bool
}

// Document is a set of flags in flagd's format, not yet parsed.
type Document struct {
	// Data is the document's bytes. Nobody changes them.
	Data []byte
	// Digest identifies Data: see Digest.
	Digest string
	// Version orders the source's documents.
	Version Version
	// Modified is when the document was written, as the source has it.
	Modified time.Time
}

// Digest is the SHA-256 of a document in hexadecimal: equal documents have equal
// digests.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Version orders the documents of a source. The zero Version is before all others
// and means that none is known.
type Version struct {
	// Epoch is larger for a store that was made later. A store that was created
	// again or restored from a backup, so that its numbers start over, must have a
	// larger epoch than before: a time of creation will do.
	Epoch int64
	// Number rises with every change of the document.
	Number int64
}

// Compare is negative if v is older than w, 0 if they are the same, else positive.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, w.Epoch), cmp.Compare(v.Number, w.Number))
}

// String is for people.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Number) }
