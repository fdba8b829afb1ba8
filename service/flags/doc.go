// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flags understands flag definitions in flagd's open JSON format: it
// parses and validates them, compiles their targeting rules and evaluates them.
// It does no I/O and reads no clock.
//
// A document goes in once, and every request reads what came of it:
//
//	bytes ─ Parse ─▶ tree with positions ─▶ Set of Flags, each a compiled rule
//	                        │
//	                        └─▶ Problems: which flag, which path, which line
//
//	                                     │
//	                                     └─▶ Attributes: what the rules read
//
//	request ─ Context.Read(body, Attributes) ─▶ Context ─ Flag.Evaluate ─▶ *Outcome
//
// # Outcomes
//
// What a flag can answer is known when it is compiled: its static answer, its
// default, one match for each variant, and two errors. Evaluate therefore
// returns a pointer to one of a Set's numbered Outcomes, and whoever speaks a
// protocol can encode all of them beforehand, by number. Evaluating a flag
// without targeting is a pointer read.
//
// # Contexts
//
// A rule knows the attributes that it reads. They are numbered when the document
// is compiled, and a request is scanned once: all of it is checked, and what a
// rule reads is decoded into its slot. Only a rule that may read anything, by a
// name that is computed or by the empty name, has the whole context decoded.
//
// # Rules
//
// Targeting is JsonLogic with flagd's own operators. A rule is compiled into
// closures that agree with github.com/diegoholiveira/jsonlogic/v3 3.9.1, the
// library inside flagd, in its oddities too: {"+":[null]} is an error, filter
// looks a variable up in the surrounding data before it looks in the element.
// One thing differs on purpose: that library evaluates data as if it were a
// rule in some places (an object with one key, returned by "if"), and here data
// is never code, because data comes from strangers.
//
// Rules are bounded in depth (MaxDepth), size (MaxNodes) and, because iterations
// multiply, in the steps of one evaluation (MaxSteps). A flag over a bound fails
// alone.
//
// # What is wrong with a flag, and what is done about it
//
// A flag that flagd's schema or its loader refuses is rejected alone: it is
// reported as a Problem, it is not in the Set, and the others serve. A rule that
// uses an operator or a $ref that does not exist is reported as well, but the
// flag serves: as in flagd, only an evaluation that reaches the place answers
// PARSE_ERROR.
package flags
