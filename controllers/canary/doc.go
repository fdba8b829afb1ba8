// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package canary decides how a candidate revision gets from its first request to
// all of them, or is rolled back. It is pure: time, samples and observations are in
// its input, and what has to survive a restart is in its output.
//
//	recorded State ─┐
//	Input ──────────┴▶ Next ─▶ Decision: weight, size, phase, State to record
//
//	Starting ──▶ LoadTesting ──▶ step 1 … step n ──▶ Promoting
//	    └────────────┴──────────────┴──────────────────┴──▶ rolled back
//
// A Ledger holds what was counted, a Progress how far the steps got. Next records
// the sample, then evaluates two ordered lists: the first of the rollbackChecks that
// applies ends the canary, the first of the holdChecks that applies keeps it where it
// is. Otherwise it advances, by one step at most. A step passes on evidence, never on
// time alone.
//
// The checks that a candidate is judged by are one table, Checks. Their verdicts come
// from package analysis.
//
// A Record is what is kept of a revision between reconciles, also after its canary.
// Its encoding is versioned: see Record.Encode and Decode.
package canary
