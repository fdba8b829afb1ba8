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

// Source is a source of truth for flags. Its methods may be called
// concurrently, except that Load is never called concurrently with itself.
type Source interface {
	// Watch calls changed whenever the document may have changed, at least once at
	// the start, until ctx is done. latest is the source's current version, or the
	// zero Version if only Load can determine it. Calling changed again with an
	// unchanged version is cheap and useful: it confirms that the served flags are
	// fresh. While the source is unreachable, changed is not called.
	Watch(ctx context.Context, changed func(latest Version))
	// Load reads the document once. A document that is too large is an error.
	Load(ctx context.Context) (Document, error)
	// Shared reports whether all instances read the same store, such as a database,
	// so that one of them can read it for all. A file is read by each instance for
	// itself.
	Shared() bool
}

// Document is an unparsed set of flags in flagd's format.
type Document struct {
	// Data is the document's content. It must not be modified.
	Data []byte
	// Digest identifies Data: see Digest.
	Digest string
	// Version orders the source's documents.
	Version Version
	// Modified is when the document was written, according to the source.
	Modified time.Time
}

// Digest returns the SHA-256 of a document in hexadecimal: equal documents have
// equal digests.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Version orders the documents of a source. The zero Version precedes all
// others and means unknown.
type Version struct {
	// Epoch is larger for a store that was created later. A store that was
	// recreated or restored from a backup, so that its numbers restart, must have a
	// larger epoch than before; a creation time is suitable.
	Epoch int64
	// Number increases with every change of the document.
	Number int64
}

// Compare returns a negative number if v is older than w, 0 if they are equal,
// and a positive number otherwise.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, w.Epoch), cmp.Compare(v.Number, w.Number))
}

// String returns the version in a form for logs.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Number) }
