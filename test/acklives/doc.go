// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package acklives holds the model of ACK to the real controller. A life is a table of steps: a user
// changes an object, AWS fails, and something is waited for.
//
//	          ┌─▶ ACK's controller, an API server and an AWS with real Redis ─▶ recording ─┐
//	lives ────┤                                                                          ├─▶ equal to
//	          └─▶ test/ackmodel in virtual time ──────────────────────────────▶ recording ─┘   testdata
//
// A recording has every version of every object, as the differences to the previous version, and the
// calls to AWS that are not reads. Times, addresses and request IDs are replaced. "-update" records
// the real controller again.
package acklives
