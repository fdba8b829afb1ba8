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
	// the start, until ctx is done. latest identifies the source's current document,
	// or is zero if only Load can determine it. Calling changed again with the same
	// state is cheap and useful: it confirms that the served flags are fresh. While
	// the source is unreachable, changed is not called.
	Watch(ctx context.Context, changed func(latest State))
	// Load reads the document once. A document that is too large is an error.
	Load(ctx context.Context) (Document, error)
	// Shared reports whether all instances read the same store, such as a database,
	// so that one of them can read it for all. A file is read by each instance for
	// itself.
	Shared() bool
}

// Expediter is a Source that can determine at once whether its document has changed.
type Expediter interface {
	// Expedite makes Watch call changed soon, if the source is reachable. It does not
	// block.
	Expedite()
}

// Document is an unparsed set of flags in flagd's format.
type Document struct {
	// Data is the document's content. It must not be modified.
	Data []byte
	// Digest identifies Data: see Digest.
	Digest string
	// State identifies the document in the source.
	State
	// Modified is when the document was written, according to the source.
	Modified time.Time
}

// Digest returns the SHA-256 of a document in hexadecimal: equal documents have
// equal digests.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// State identifies a document of a source. A version alone does not: another store
// may have the same one, and so may the same store after it was reset to an earlier
// state.
type State struct {
	// Store identifies the store, such as a database; empty if it is unknown.
	Store string
	// Former is a name by which instances of earlier releases may have identified the
	// store; empty if there is none.
	Former string
	// Version orders the documents of the store.
	Version Version
	// Tag differs for each change of the store, so that two documents with the same
	// version are not confused; empty if it is unknown.
	Tag string
	// Lagging means that the state was read from a replica, which may be behind.
	Lagging bool
}

// SameStore reports whether two states may be of the same store.
func (s State) SameStore(other State) bool {
	return s.Store == "" || other.Store == "" || s.Store == other.Store || s.Former == other.Store || s.Store == other.Former
}

// Confirms reports whether the source in this state has the document of another
// state. A state without a tag is confirmed only by one that has none, either.
func (s State) Confirms(other State) bool {
	return s.Store == other.Store && s.Version == other.Version && s.Tag == other.Tag
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
