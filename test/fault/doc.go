// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fault verifies that the operator converges after any fault. It runs the real reconciler
// in the World, a simulated environment: a versioned store with the semantics of the API server,
// actors that behave like Kubernetes, the kubelet and Redis, and a clock that advances from one
// event to the next.
//
//	scenario ──▶ reference run: each call of the operator gets a number k
//	                │
//	                ├─▶ for each k: each fault, once, three times, until it is cleared
//	                ├─▶ for each k: a deletion, a change of the spec, a second leader
//	                └─▶ for each reconciliation: stale caches, with and without a restart,
//	                    lost and duplicated events, a jump of the clock
//	                          │
//	                          ▼
//	     the same final state · all invariants after each write · bounded effort ·
//	     no writes in steady state
//
// A plan is data and is written as one line. A failure prints this line, which replays the run
// with a log (see docs/fault-injection.md). Nothing is random: the same line results in the same
// run, call by call.
//
// Runs are verified by four oracles: the end state is compared with that of the reference; the
// invariants are checked after each write, by any client; the effort is bounded; and after
// convergence further reconciliations must not write.
package fault
