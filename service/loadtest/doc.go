// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package loadtest sends evaluations to a flag service over OFREP, as its
// clients do, and reports latencies and errors.
//
// A test discovers the flags by one bulk evaluation, and then evaluates single
// flags without a rule, single flags with one, and all flags:
//
//	schedule ──▶ worker ─┐                    ┌─▶ latency since the scheduled time
//	   "        worker ─┼─▶ flag service ──▶ ├─▶ errors by kind
//	   "        worker ─┘    (keep-alive)     ├─▶ revisions, by header
//	                                          └─▶ Answers: is it correct?
//
// Without a rate each worker sends its next request as soon as it has an
// answer. With a rate, requests are scheduled at fixed times independently of
// earlier ones, and latencies are measured from then: a service that stalls for
// a second is charged for all requests that were due meanwhile, not only for
// those that were sent (this corrects for coordinated omission).
package loadtest
