// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan decides. It is the functional core of the operator: a Snapshot
// of the world goes in, a Plan comes out, and nothing else happens. It does no
// I/O, reads no clock and draws no random number; whatever it needs is in the
// Snapshot.
//
//	Snapshot ──▶ cache ──▶ connection ──▶ rollout ──▶ service ──▶ status ──▶ Plan
//	               │            │            ▲           │
//	             flags ─────────┴────────────┘        events
//
// Every part plans, always. A part that lacks what it needs finds it absent in
// the Snapshot, says so in its condition and asks for nothing; so trouble in
// one part never holds back another.
//
// A Plan only ever asks for steps whose preconditions were seen: traffic moves
// to a revision after its pods were observed available, an old revision goes
// after the Service was observed to select the new one. A crash between any
// two writes is therefore the same as looking again.
package plan
