// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan is the functional core of the operator. Make turns a Snapshot of the
// observed state into a Plan, and nothing else: it does no I/O, reads no clock and draws
// no random number; whatever it needs is in the Snapshot.
//
//	Snapshot ──▶ Index ──▶ cache ──▶ connection ──▶ rollout ──▶ traffic ──▶ status ──▶ Plan
//	                         │           │             ▲ ▲
//	                      source ────────┴─────────────┘ └── canary
//
// Every part is planned, always. A part that lacks what it needs finds it absent in the
// Snapshot, reports that in its condition and requests nothing, so that a problem in one
// part never blocks another.
//
// A Plan only contains steps whose preconditions were observed: traffic moves to a
// revision after its pods were observed available, an old revision is deleted after the
// Service was observed to select the new one. A crash between any two writes is therefore
// the same as reconciling again.
package plan
