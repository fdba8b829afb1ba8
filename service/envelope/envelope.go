// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/service/source"
)

// Entry is a cached document.
type Entry struct {
	// State identifies the document in its source.
	source.State
	// Data is the document.
	Data []byte
	// SealedAt is when it was stored, to the second; zero if that is unknown. Documents of a
	// database have none: they are used only if that confirms them.
	SealedAt time.Time
	// Stale means that it was stored so long ago that it has expired since, unless somebody
	// stored it again. It is not stored.
	Stale bool
	// Supersedes means that the source does not have any other document which may
	// be stored for its store, even one with a newer version. It is not stored.
	Supersedes bool
}

// format is the version of the envelope's layout. previousFormat has neither store
// nor tag. It is read, because instances of an earlier release may share Redis, and
// never written.
const (
	format         = "flagcache/3"
	previousFormat = "flagcache/2"
)

// MaxHeader is an upper bound of the length of an envelope's first line.
const MaxHeader = 1024

var errNotEnvelope = errors.New("the value is not an intact envelope for its key")

// ErrUnverified is returned for an envelope that was sealed with another integrity key,
// or none. Its state is only a claim. It may be that of another store, or of this one
// while the key is replaced, so it is not discarded like a damaged one.
var ErrUnverified = errors.New("the document in Redis was sealed with another integrity key")

// Sealer creates and opens envelopes.
type Sealer struct {
	// Secret authenticates values; without it they carry a checksum.
	Secret []byte
	// Accepted are further keys of values that are opened: while the key is replaced,
	// instances seal with the next or the previous one.
	Accepted [][]byte
}

// KeyFrom returns the key in the content of a file or of a Secret.
func KeyFrom(content []byte) []byte { return bytes.TrimSpace(content) }

// Equal reports whether two sealers have the same keys.
func (s Sealer) Equal(o Sealer) bool {
	return bytes.Equal(s.Secret, o.Secret) && slices.EqualFunc(s.Accepted, o.Accepted, bytes.Equal)
}

func (s Sealer) algorithm() string {
	if len(s.Secret) == 0 {
		return "sha256"
	}
	return "hmac-sha256"
}

func (s Sealer) hash() hash.Hash {
	if len(s.Secret) == 0 {
		return sha256.New()
	}
	return hmac.New(sha256.New, s.Secret)
}

// Seal returns the envelope of an entry under a key.
func (s Sealer) Seal(key string, e Entry) []byte {
	return s.seal(format, fmt.Sprintf("%d %d %d %s %s %s\n", e.Version.Epoch, e.Version.Number, len(e.Data), token(e.Store), token(e.tag()), key), e.Data)
}

// sealPrevious returns the envelope of an entry in the previous format.
func (s Sealer) sealPrevious(key string, e Entry) []byte {
	return s.seal(previousFormat, fmt.Sprintf("%d %d %d %s\n", e.Version.Epoch, e.Version.Number, len(e.Data), key), e.Data)
}

func (s Sealer) seal(format, fields string, data []byte) []byte {
	sum := s.hash()
	sum.Write([]byte(format + " " + fields))
	sum.Write(data)
	header := format + " " + s.algorithm() + " " + hex.EncodeToString(sum.Sum(nil)) + " " + fields
	return append([]byte(header), data...)
}

// token returns text as one field of a header.
func token(text string) string { return "=" + url.QueryEscape(text) }

// timePrefix begins a tag that is a time, in seconds since 1970. Instances of an earlier release
// accept exactly one encoding of a document, with any tag, which they compare only if it is that
// of a database. They delete what has another format or one more field.
const timePrefix = "sealed-at:"

// tag returns the tag of an entry in its envelope: that of a database, or the time.
func (e Entry) tag() string {
	if e.SealedAt.IsZero() {
		return e.Tag
	}
	return timePrefix + strconv.FormatInt(e.SealedAt.Unix(), 10)
}

// setTag is the inverse of tag.
func (e *Entry) setTag(tag string) {
	text, isTime := strings.CutPrefix(tag, timePrefix)
	seconds, err := strconv.ParseInt(text, 10, 64)
	if !isTime || err != nil {
		e.Tag = tag
		return
	}
	e.SealedAt = time.Unix(seconds, 0)
}

// Open returns the entry in an envelope that was sealed with any of the keys. It parses
// only the state in the header, and then compares the value with the envelope that Seal
// produces for the entry, so that exactly one encoding is accepted. An envelope of the
// previous format has neither store nor tag, so that no source confirms its entry. Of one
// that was sealed with another key, it returns the state and ErrUnverified.
func (s Sealer) Open(key string, value []byte) (Entry, error) {
	entry, err := s.open(key, value)
	for _, secret := range s.Accepted {
		if err == nil {
			break
		}
		if accepted, other := (Sealer{Secret: secret}).open(key, value); other == nil {
			return accepted, nil
		}
	}
	return entry, err
}

// open opens an envelope that was sealed with the key that it seals with.
func (s Sealer) open(key string, value []byte) (Entry, error) {
	entry, fields, err := parse(value)
	if err != nil {
		return Entry{}, err
	}
	sealed := s.sealPrevious(key, entry)
	if fields[0] == format && len(fields) > 7 {
		entry.Store, _ = url.QueryUnescape(strings.TrimPrefix(fields[6], "="))
		tag, _ := url.QueryUnescape(strings.TrimPrefix(fields[7], "="))
		entry.setTag(tag)
		sealed = s.Seal(key, entry)
	}
	switch {
	case hmac.Equal(sealed, value):
		return entry, nil
	case s.sealedOtherwise(key, fields, len(entry.Data)):
		return Entry{State: entry.State}, ErrUnverified
	default:
		return Entry{}, errNotEnvelope
	}
}

// sealedOtherwise reports whether the header of a value that is not intact is that of an
// envelope for the key which may be intact for another integrity key. Without keys, only
// damage makes a difference.
func (s Sealer) sealedOtherwise(key string, fields []string, size int) bool {
	keyed := Sealer{Secret: []byte(key)}.algorithm()
	return len(fields) > 8 && fields[0] == format && (fields[1] == keyed || fields[1] == Sealer{}.algorithm() && s.algorithm() == keyed) &&
		fields[5] == strconv.Itoa(size) && strings.HasPrefix(fields[6], "=") && strings.HasPrefix(fields[7], "=") && strings.Join(fields[8:], " ") == key
}

// parse returns the entry in an envelope that is not verified, and the fields of
// its header.
func parse(value []byte) (Entry, []string, error) {
	header, data, found := bytes.Cut(value, []byte("\n"))
	fields := strings.Split(string(header), " ")
	if !found || len(header) > MaxHeader || len(fields) < 6 {
		return Entry{}, nil, errNotEnvelope
	}
	epoch, epochErr := strconv.ParseInt(fields[3], 10, 64)
	number, numberErr := strconv.ParseInt(fields[4], 10, 64)
	if epochErr != nil || numberErr != nil {
		return Entry{}, nil, errNotEnvelope
	}
	return Entry{State: source.State{Version: source.Version{Epoch: epoch, Number: number}}, Data: data}, fields, nil
}
