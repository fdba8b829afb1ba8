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
)

// Entry is a cached document.
type Entry struct {
	// Version orders documents: of two, the larger was written later.
	Version int64
	// Data is the document.
	Data []byte
}

// format names the layout of an envelope; a different one is a different format.
const format = "flagcache/1"

// maxHeader is more than an envelope's first line has.
const maxHeader = 1024

var errNotEnvelope = errors.New("the value is not an intact envelope for its key")

// sealer makes and opens envelopes.
type sealer struct {
	// secret authenticates values; without one they carry a checksum.
	secret []byte
}

func (s sealer) algorithm() string {
	if len(s.secret) == 0 {
		return "sha256"
	}
	return "hmac-sha256"
}

func (s sealer) hash() hash.Hash {
	if len(s.secret) == 0 {
		return sha256.New()
	}
	return hmac.New(sha256.New, s.secret)
}

// seal returns the envelope of an entry under a key.
func (s sealer) seal(key string, e Entry) []byte {
	fields := fmt.Sprintf("%d %d %s\n", e.Version, len(e.Data), key)
	sum := s.hash()
	sum.Write([]byte(format + " " + fields))
	sum.Write(e.Data)
	header := format + " " + s.algorithm() + " " + hex.EncodeToString(sum.Sum(nil)) + " " + fields
	return append([]byte(header), e.Data...)
}

// open returns the entry in an envelope. It reads no more than the version from
// the header and then compares the value with the envelope of what it found, so
// that there is exactly one form in which a value is accepted.
func (s sealer) open(key string, value []byte) (Entry, error) {
	header, data, found := bytes.Cut(value, []byte("\n"))
	fields := bytes.Split(header, []byte(" "))
	if !found || len(fields) < 4 {
		return Entry{}, errNotEnvelope
	}
	version, err := strconv.ParseInt(string(fields[3]), 10, 64)
	if err != nil {
		return Entry{}, errNotEnvelope
	}
	entry := Entry{Version: version, Data: data}
	if !hmac.Equal(s.seal(key, entry), value) {
		return Entry{}, errNotEnvelope
	}
	return entry, nil
}
