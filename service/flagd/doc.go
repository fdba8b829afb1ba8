// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flagd serves the protocols of flagd's providers: flagd.evaluation.v1 and v2,
// which evaluate flags, and flagd.sync.v1, from which providers get the definitions of
// flags to evaluate them in their own process. Each speaks Connect, gRPC and gRPC-Web.
//
// Flags are those of ofrep.Core, and streams those of ofrep.Streams:
//
//	Handler ─ token, limits, CORS, metrics ─▶ connect ─▶ request ─▶ ofrep.Core ─▶ response
//	                                             │
//	                                             └─▶ EventStream, SyncFlags ─▶ ofrep.Streams
//
// A context in protobuf is written as the body of an OFREP request while it is read
// (request.go): it costs a pass over its bytes whatever it contains, and the rules for
// contexts are those of flags.Context.Read. Responses are written from the outcomes of
// the flags (response.go), without messages in between.
//
// What a client makes the service hold is limited: the size of requests, the number of
// requests and streams, and the bytes of messages that clients have not accepted. These
// are separate from those of OFREP, so that a client of one protocol does not take those
// of the other. A client that does not accept a message in time loses its stream.
//
// Choices where flagd's protocols are not specific:
//   - A flag whose definition was rejected is DATA_LOSS, which providers report as
//     PARSE_ERROR: UNKNOWN, as which flagd sends GENERAL, would be retried.
//   - All flags have one source, whose name is the environment.
//   - A document that is synchronized has only flags that are served.
package flagd
