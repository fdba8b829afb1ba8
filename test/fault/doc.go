// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fault proves that the operator converges whatever fails. It runs the
// real reconciler in a World that is played: a versioned store with the API
// server's semantics, actors that do what Kubernetes, the kubelet and Redis do,
// and a clock that jumps from one event to the next.
//
//	scenario ──▶ reference run: every call of the operator gets a number k
//	                │
//	                ├─▶ for each k, each way to fail, once, three times, until lifted
//	                ├─▶ for each k: a deletion, a new spec, a second leader
//	                └─▶ for each look: an old view, a restart into the past, lost
//	                    and doubled wake-ups, a jump of the clock
//	                          │
//	                          ▼
//	     the same final state · every invariant after every write · no more
//	     effort than the fault is worth · then silence
//
// A plan is data and fits on one line; a failure prints that line, and the line
// replays it with its film (see docs/fault-injection.md). Nothing is random:
// the same line is the same run, call by call.
//
// Four oracles judge a run. The end state is compared with the reference's; the
// invariants are checked after every write, whoever wrote; the effort is
// bounded; and after convergence a hundred further looks must write nothing.
package fault
