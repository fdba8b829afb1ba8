// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"

	"github.com/flagcache/flagcache/service/source"
)

// Entry is a cached document.
type Entry struct {
	// Version orders documents: a larger version was written later.
	Version source.Version
	// Data is the document.
	Data []byte
}

// format is the version of the envelope's layout.
const format = "flagcache/2"

// maxHeader is an upper bound of the length of an envelope's first line.
const maxHeader = 1024

var errNotEnvelope = errors.New("the value is not an intact envelope for its key")

// Sealer creates and opens envelopes.
type Sealer struct {
	// Secret authenticates values; without it they carry a checksum.
	Secret []byte
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
	fields := fmt.Sprintf("%d %d %d %s\n", e.Version.Epoch, e.Version.Number, len(e.Data), key)
	sum := s.hash()
	sum.Write([]byte(format + " " + fields))
	sum.Write(e.Data)
	header := format + " " + s.algorithm() + " " + hex.EncodeToString(sum.Sum(nil)) + " " + fields
	return append([]byte(header), e.Data...)
}

// Open returns the entry in an envelope. It parses only the version in the
// header, and then compares the value with the envelope that Seal produces for
// the entry, so that exactly one encoding is accepted.
func (s Sealer) Open(key string, value []byte) (Entry, error) {
	header, data, found := bytes.Cut(value, []byte("\n"))
	fields := bytes.Split(header, []byte(" "))
	if !found || len(fields) < 5 {
		return Entry{}, errNotEnvelope
	}
	epoch, epochErr := strconv.ParseInt(string(fields[3]), 10, 64)
	number, numberErr := strconv.ParseInt(string(fields[4]), 10, 64)
	if epochErr != nil || numberErr != nil {
		return Entry{}, errNotEnvelope
	}
	entry := Entry{Version: source.Version{Epoch: epoch, Number: number}, Data: data}
	if !hmac.Equal(s.Seal(key, entry), value) {
		return Entry{}, errNotEnvelope
	}
	return entry, nil
}
