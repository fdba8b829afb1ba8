// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package loadtest asks a flag service as its clients do, over OFREP, and says
// how it answered.
//
// A test finds out by one bulk evaluation which flags there are, and then asks
// for single flags without a rule, single flags with one, and for all of them:
//
//	schedule ──▶ worker ─┐                    ┌─▶ latency from when it was due
//	   "        worker ─┼─▶ flag service ──▶ ├─▶ errors by kind
//	   "        worker ─┘    (keep-alive)     ├─▶ revisions, by header
//	                                          └─▶ Answers: is it the right one?
//
// Without a rate each worker asks again as soon as it has its answer. With one,
// requests are due at fixed times whatever became of those before, and a
// latency counts from then: a service that stands still for a second is charged
// for every request that it kept waiting, not only for those it was sent
// (the correction for coordinated omission).
package loadtest
