// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package split forwards a share of the requests to the candidate revision and
// answers locally whenever the candidate fails.
//
// The operator writes one file, which is mounted in every pod of the stable
// revision and reloaded without a restart. While it contains a share, a request
// takes this path:
//
//	              in the share?      no
//	client ──▶ stable pod ────────────────────────────▶ answered locally
//	               │ yes                                    ▲
//	               ▼                                        │ refused, timeout, truncated,
//	           candidate ── 200, 304, 400, 404 ──▶ client   │ 5xx, 429, invalid JSON …
//	               └────────────────────────────────────────┘
//
// A response of the candidate is read completely before its first byte is sent,
// so a client sees a complete response of one revision or the other, and never
// a failure of the candidate.
//
// The share is selected by a hash of the FlagCache's identity and the targeting
// key, so all pods select alike, a key stays on its side, and the keys in 5 %
// are in 25 % too. Requests without a targeting key are selected at random.
//
// The metrics measure what clients would have seen of the candidate, and are
// what the operator evaluates. So an attempt always runs to its end or its
// timeout: if it ended with the client, the evidence of exactly the impatient
// clients of a hanging candidate would be lost. And nothing is retried: a
// successful retry would hide the failed attempt.
package split
