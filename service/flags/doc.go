// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flags parses, validates and compiles flag definitions in flagd's open
// JSON format, and evaluates their targeting rules. It does no I/O and reads no
// clock.
//
// A document is compiled once; every request reads the result:
//
//	bytes ─ Parse ─▶ tree with positions ─▶ Set of Flags, each a compiled rule
//	                        │
//	                        └─▶ Problems: flag, path, line and column
//
//	                                     │
//	                                     └─▶ Attributes: the context attributes that rules read
//
//	request ─ Context.Read(body, Attributes) ─▶ Context ─ Flag.Evaluate ─▶ *Outcome
//
// # Outcomes
//
// All possible results of a flag are known when it is compiled: its static
// value, its default, one match for each variant, and three errors. Evaluate
// therefore returns a pointer to one of a Set's numbered Outcomes, so that a
// protocol handler can encode all of them in advance, indexed by number.
// Evaluating a flag without targeting is a pointer read.
//
// # Contexts
//
// The attributes that rules read are known, and numbered, when the document is
// compiled. A request is scanned once: all of it is validated, and the
// attributes that rules read are decoded into their slots. The whole context is
// decoded only for a rule that may read any attribute, because it computes the
// name or uses the empty name.
//
// # Rules
//
// Targeting is JsonLogic with flagd's own operators. A rule is compiled into
// closures that behave like github.com/diegoholiveira/jsonlogic/v3 3.9.1, the
// library that flagd uses, including its quirks: {"+":[null]} is an error, and
// filter resolves a variable in the surrounding data before the element. One
// difference is deliberate: in some places that library evaluates data as a
// rule (an object with one key, returned by "if"). Here data is never
// evaluated, because it comes from untrusted clients.
//
// Rules are limited in depth (MaxDepth), size (MaxNodes) and, because nested
// iterations multiply, in the steps of one evaluation (MaxSteps). Exceeding a
// limit affects that flag only.
//
// What a document becomes is limited as a whole (MaxBulkSize, MaxResponsesSize,
// MaxTotalNodes), because some of its parts multiply: it is added up before
// anything is merged, encoded or compiled, and a document over a limit is
// refused. Metadata is shared by the outcomes that have it. Messages contain only
// the beginning of long keys, and MaxProblems limits their number.
//
// # Invalid flags
//
// A flag that flagd's schema or loader would refuse is rejected individually:
// it is reported as a Problem and left out of the Set, while the other flags
// are served. A rule that cannot work is reported too, but the flag is served: as
// in flagd, only an evaluation that reaches the part fails, such as an unknown
// operator with PARSE_ERROR. The signatures of the operators are one table.
package flags
