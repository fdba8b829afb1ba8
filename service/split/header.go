// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"crypto/rand"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/ofrep"
)

var headerSplit = http.CanonicalHeaderKey(config.HeaderSplit)

// singleHeaders are the request headers of which the flag service reads the
// first value, and listHeaders those of which it reads all. No others are
// forwarded, and these always are: the stable pod has admitted the request by
// them, whatever a client's Connection header contains.
var (
	singleHeaders = []string{"Authorization", "X-Api-Key", "Content-Type", "Origin", "Traceparent"}
	listHeaders   = []string{"If-None-Match", "Tracestate"}
)

// forwardedHeader returns the headers to forward to the candidate.
func forwardedHeader(header http.Header) http.Header {
	// Without the entry, Go's client would set a User-Agent.
	forwarded := http.Header{"User-Agent": nil}
	for _, name := range singleHeaders {
		if values := header[name]; len(values) > 0 {
			forwarded[name] = values[:1]
		}
	}
	for _, name := range listHeaders {
		switch values := header[name]; len(values) {
		case 0:
		case 1:
			forwarded[name] = values
		default:
			forwarded[name] = []string{strings.Join(values, ", ")}
		}
	}
	// A response in another encoding could not be checked.
	if ofrep.AcceptsGzip(header["Accept-Encoding"]) {
		forwarded["Accept-Encoding"] = []string{encodingGzip}
	}
	return forwarded
}

// maxHops is the number of pods that a forwarded request names.
const maxHops = 8

// hops recognizes the requests that this pod has forwarded, which must not be
// forwarded again when two revisions consider each other the candidate. The
// header of a forwarded request has the candidate's revision and the identities
// of the pods that have forwarded it. They are random and only sent to
// candidates, so a client cannot pretend that its request was forwarded.
type hops struct{ own string }

func newHops() hops { return hops{rand.Text()} }

// include reports whether this pod has forwarded the request.
func (h hops) include(values []string) bool {
	return len(values) > 1 && slices.Contains(values[1:], h.own)
}

// next returns the values of the header for a request that arrived with the
// given ones. What a client may have set is limited, and left out first.
func (h hops) next(revision string, arrived []string) []string {
	values := []string{revision}
	if len(arrived) > 1 {
		for _, value := range arrived[max(1, len(arrived)-maxHops+1):] {
			if len(value) == len(h.own) {
				values = append(values, value)
			}
		}
	}
	return append(values, h.own)
}

// hopByHop are headers of a single connection, and those that each hop sets
// itself.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect", "Content-Length", "Date",
}

// meaningful are the response headers that determine what the body means. A
// Connection header cannot remove them.
var meaningful = []string{"Content-Type", "Content-Encoding", "Etag", "Vary", "Cache-Control", http.CanonicalHeaderKey(config.HeaderRevision)}

// endToEnd returns a copy of the headers of a response without hop-by-hop
// headers.
func endToEnd(header http.Header) http.Header {
	kept := header.Clone()
	for _, options := range header["Connection"] {
		for option := range strings.SplitSeq(options, ",") {
			if name := textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(option)); !slices.Contains(meaningful, name) {
				delete(kept, name)
			}
		}
	}
	for name := range kept {
		if slices.Contains(hopByHop, name) {
			delete(kept, name)
		}
	}
	return kept
}
