// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ofrep answers OpenFeature's remote evaluation protocol, OFREP 0.3.0.
//
// Core is the protocol without HTTP: a key and a body go in, a status and a body
// come out. It answers from an immutable view of the flags behind an atomic
// pointer. When a set of flags is served, everything it can answer is encoded
// once, so that answering copies bytes:
//
//	Serve(set) ──▶ view{answers[outcome]} ◀── one atomic load ── Single, Bulk
//
// Handler puts net/http around it: paths, methods, CORS, who may ask (package
// access), limits, compression, the ETag of bulk answers. Streams tell clients of
// changes. Telemetry is the other port: /livez, /readyz and /metrics.
//
// Where the protocol leaves room, or others differ:
//   - An absent or empty body and an absent context count as an empty context,
//     as with flagd. A context that is not an object is INVALID_CONTEXT.
//   - A body that two parsers could read in two ways is refused, as INVALID_CONTEXT
//     too: a name twice in an object, half of a surrogate pair, a number beyond a
//     float64. So is one nested deeper than 64 levels. flags.Context.Read has the
//     rules; they are the same for every flag.
//   - TARGETING_KEY_MISSING is never answered: as with flagd, a rule that lacks
//     the targeting key falls to the default variant.
//   - "No value" is an absent field, never null.
//   - The reason DEFAULT is sent although the protocol's schema does not list it;
//     its own examples and all other servers do.
//   - flagConfigEtag and flagConfigLastModified, with which a client that was told
//     of a change asks for answers at least as new, are not read: answers never
//     come from anything older than what is being served.
//   - 401 and 403 make providers stop for good. A service that has lost its
//     credentials therefore answers 503.
//   - Everything after /flags/ is the key, decoded once, so a key may have slashes.
package ofrep
