// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ofrep implements OpenFeature's remote evaluation protocol, OFREP
// 0.3.0.
//
// Core is the protocol without HTTP: it maps a key and a body to a status and a
// body. It reads an immutable view of the flags behind an atomic pointer. When
// a new set of flags is served, all its possible outcomes are encoded once, so
// that a response only copies bytes:
//
//	Serve(set) ──▶ view{responses[outcome]} ◀── one atomic load ── Single, Bulk
//
// Handler adds HTTP: paths, methods, CORS, authentication and rate limits
// (package access), compression, and the ETag of bulk responses. Streams notify
// clients of changes. Telemetry serves the other port: /livez, /readyz and
// /metrics.
//
// Choices where the protocol is not specific, or other implementations differ:
//   - An absent or empty body and an absent context are an empty context, as
//     in flagd. A context that is not an object is INVALID_CONTEXT.
//   - A body that parsers could interpret differently is rejected as
//     INVALID_CONTEXT: duplicate names in an object, an unpaired surrogate, a
//     number beyond a float64. So is one nested deeper than 64 levels. The
//     rules are those of flags.Context.Read, and the same for every flag.
//   - TARGETING_KEY_MISSING is never returned: as in flagd, a rule without the
//     targeting key selects the default variant.
//   - "No value" is an absent field, never null.
//   - The reason DEFAULT is sent although the protocol's schema does not list
//     it; its own examples and all other servers do.
//   - With flagConfigEtag and flagConfigLastModified a client that was notified of a change
//     requests flags that are at least as recent. An instance that is behind waits for them
//     for up to a second, as long as not too many requests wait, then answers from what it
//     serves, with config.HeaderBehind. The tag orders the flags of a store, so that any
//     instance can compare them. With a tag of other flags than the served ones the answer
//     is never 304.
//   - Providers treat 401 and 403 as fatal. A service that has lost its
//     credentials therefore answers 503.
//   - Everything after /flags/ is the key, decoded once, so a key may contain
//     slashes.
package ofrep
