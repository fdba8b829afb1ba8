// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package probe checks periodically whether the clients of each cache can use it, and
// keeps the last result.
//
// One probe does what a client does, on a connection of its own: resolve the name,
// connect, perform the TLS handshake, authenticate, PING, write a key with an expiry,
// read it back, and read the replication state. The result has hysteresis, so that one
// lost packet is not an outage and one success is not a recovery. With a failure
// threshold of three and a success threshold of two:
//
//	probe    ok       x  x  ok       x  x        x          ok         ok
//	Outcome  Healthy  .  .  .        .  .        Unhealthy  .          Healthy
//	Changed  called                              called                called
//
// The outcome of a cache that was never healthy is unknown, with the reason of its last
// failure, until its failures reach the threshold.
//
// # Lanes
//
// A probe of a cache that does not respond occupies a worker until its timeout, so
// responsive caches never share workers with unresponsive ones. There are four lanes,
// each with its own workers and its own queue, in order of due time:
//
//	lane     last probe                                timeout of a probe
//	new      none                                      250 ms; then repeated as failing
//	fast     succeeded within 250 ms                   250 ms; then repeated as late
//	late     succeeded later, or failed while the      the target's
//	         cache is still healthy
//	failing  failed; also what exceeds the workers     the target's
//	         of the late lane
//
// A probe in the new and the fast lane that takes longer than 250 ms is aborted without
// a result, and repeated in the other lane with the target's timeout. A thousand caches
// that stop responding at the same time therefore occupy the fast lane for at most
// 250 ms each, once.
//
// A failing cache whose probe had to wait for a worker adds the waiting time to its next
// interval, up to three intervals in total; while the lane has free workers, every cache
// keeps its interval.
//
// # Load
//
// A probe also reads the memory and CPU usage of the cache. A change of the load is
// reported only if it is sustained: high for an hour, or low for a day.
//
// # Secrets
//
// A server can put anything into a reply, including the password that it just received.
// No text of a reply is copied to a message, a log or a metric: messages are chosen by
// the error code of the reply. They contain no counters, times or generated names either,
// so that the same failure always has the same message.
package probe
