// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package split hands a share of the requests to the candidate revision and
// answers by itself whenever the candidate does not.
//
// The operator writes one file, which is mounted in every pod of the stable
// revision and followed without a restart. While it names a share, a request goes
// this way:
//
//	              in the share?      no
//	client ──▶ stable pod ────────────────────────────▶ answered here
//	               │ yes                                    ▲
//	               ▼                                        │ refused, late, broken off,
//	           candidate ── 200, 304, 400, 404 ──▶ client   │ 5xx, 429, no JSON …
//	               └────────────────────────────────────────┘
//
// An answer of the candidate is read to its end before its first byte is sent on,
// so a client sees a whole answer of one revision or of the other, and never a
// failure of the candidate.
//
// Who is in the share is decided by a hash of the FlagCache's identity and the
// targeting key, so all pods decide alike, a key stays on its side, and those
// who are in 5 % are in 25 % too. Without a targeting key each request is
// decided by chance.
//
// What is measured here is what clients would have seen of the candidate, and it
// is what the operator judges. So an attempt always runs to its end or its
// time-out: if it ended with the client, a candidate that hangs would lose
// exactly the impatient clients' evidence. And nothing is tried twice: a second
// try that succeeds would hide the first that did not.
package split
