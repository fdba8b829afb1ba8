// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/service/source"
)

// Position places served flags among those of their store, so that instances can tell
// which of two sets is the more recent one. The zero Position is unknown.
type Position struct {
	// Store identifies the store. Positions in different stores are not comparable.
	Store string
	// Version orders the sets of the store.
	Version source.Version
	// Digest identifies the content: see source.Digest.
	Digest string
	// Modified is when the set was written; if that is unknown, when this instance
	// began to serve it.
	Modified time.Time
}

// configTag is the entity tag of a flag configuration in events, from which other
// instances learn the position: "STORE-EPOCH.NUMBER-DIGEST". It is not the entity tag of
// a response, which depends on the context, too.
type configTag struct {
	store, digest string
	version       source.Version
}

const (
	// tagStore and tagDigest are the numbers of hexadecimal digits of the hash of the
	// store and of the digest in a tag.
	tagStore, tagDigest = 12, 32
	// maxConfigTag limits the length of a tag in a request.
	maxConfigTag = 128
)

// tag returns the tag of a position, the zero one if that is unknown.
func (p Position) tag() configTag {
	if len(p.Digest) < tagDigest {
		return configTag{}
	}
	sum := sha256.Sum256([]byte(p.Store))
	return configTag{store: hex.EncodeToString(sum[:])[:tagStore], digest: p.Digest[:tagDigest], version: p.Version}
}

// String returns the tag as it is sent, with the quotes of an entity tag.
func (t configTag) String() string {
	return fmt.Sprintf(`"%s-%d.%d-%s"`, t.store, t.version.Epoch, t.version.Number, t.digest)
}

// parseConfigTag parses a tag, with or without quotes. It returns the zero tag for
// anything that no instance can have sent.
func parseConfigTag(text string) configTag {
	if len(text) > maxConfigTag {
		return configTag{}
	}
	text = strings.Trim(text, `"`)
	parts := strings.Split(text, "-")
	if len(parts) != 3 || len(parts[0]) != tagStore || len(parts[2]) != tagDigest {
		return configTag{}
	}
	epoch, number, _ := strings.Cut(parts[1], ".")
	t := configTag{store: parts[0], digest: parts[2]}
	t.version.Epoch, _ = strconv.ParseInt(epoch, 10, 64)
	t.version.Number, _ = strconv.ParseInt(number, 10, 64)
	if t.String() != `"`+text+`"` {
		return configTag{}
	}
	return t
}

// Query parameters with which a client that was notified of a change requests flags that
// are at least as recent.
const (
	parameterPrefix   = "flagConfig"
	parameterTag      = parameterPrefix + "Etag"
	parameterModified = parameterPrefix + "LastModified"
)

// demand is how recent the flags in a response must be.
type demand struct {
	// tagged means that the request has a tag; tag is zero if it is no instance's.
	tagged bool
	tag    configTag
	// modified is the time in Unix seconds; 0 is none.
	modified int64
}

// demandOf returns the demand in the query of a request. What is not valid demands
// nothing.
func demandOf(query string) demand {
	if !strings.Contains(query, parameterPrefix) {
		return demand{}
	}
	// Parameters before and after an invalid one are returned.
	values, _ := url.ParseQuery(query)
	d := demand{modified: parseTime(values.Get(parameterModified))}
	if tag := values.Get(parameterTag); tag != "" {
		d.tagged, d.tag = true, parseConfigTag(tag)
	}
	return d
}

// parseTime returns a time in Unix seconds, which may also be in the format of RFC 3339;
// 0 if it is neither.
func parseTime(text string) int64 {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return max(0, seconds)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0
	}
	return max(0, at.Unix())
}

// met reports whether flags at a position are recent enough. A tag of the same store
// decides. The time has only the resolution of a second.
func (d demand) met(p Position) bool {
	served := p.tag()
	switch {
	case d.tag != configTag{} && d.tag.store == served.store:
		return d.tag.digest == served.digest || d.tag.version.Compare(served.version) <= 0
	case d.modified > 0:
		return p.Modified.Unix() >= d.modified
	default:
		return true
	}
}

// unchanged reports whether the client may be answered that nothing changed for it: not
// if it was notified of other flags than those at the position.
func (d demand) unchanged(p Position) bool {
	served := p.tag()
	differs := d.tagged && (d.tag.store != served.store || d.tag.digest != served.digest)
	return !differs && d.met(p)
}
