// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package probe asks each cache, on its interval, whether its users can use it,
// and remembers the answer.
//
// One probe is what a user does, on a connection of its own: resolve, connect,
// TLS, log in, PING, write a key with an expiry, read it back, and ask for the
// replication state. A verdict has hysteresis, so that one lost packet is no
// outage and one lucky reply is no recovery. With a failure threshold of three
// and a success threshold of two:
//
//	probe    ok       x  x  ok       x  x        x          ok         ok
//	Outcome  Healthy  .  .  .        .  .        Unhealthy  .          Healthy
//	Changed  called                              called                called
//
// A cache that was never seen healthy is Unknown, with the reason of its last
// failure, until its failures reach the threshold.
//
// # Who waits for whom
//
// A probe of a cache that does not answer holds a worker until its timeout, so
// caches that answer never share workers with caches that do not. There are four
// lanes, each with its own workers and its own queue, the longest due first:
//
//	lane     whose last probe                          what a probe may take
//	new      there was none                            250 ms; then again as failing
//	fast     succeeded within 250 ms                   250 ms; then again as late
//	late     succeeded later, or failed and the        the timeout
//	         cache still counts as healthy
//	failing  failed; all that the late lane has no     the timeout
//	         worker for
//
// A probe in the new and the fast lane that takes longer than 250 ms is given up
// without a verdict, and starts over in the other lane with its whole timeout. A
// thousand caches that all stop answering in the same second therefore hold the
// fast lane for 250 ms each at most, once.
//
// A failing cache whose probe had to wait for a worker adds the time it waited to its
// next interval, up to three intervals in total; while the lane has workers to spare
// nobody waits and everybody keeps the interval.
//
// # Load
//
// A probe also asks how much memory and CPU the cache uses. That becomes news only
// when it stays as it is: high for an hour, or low for a day.
//
// # What never leaves
//
// A server can put anything into a reply, also the password it was just sent. No
// text from a reply goes into a message, a log or a metric: messages are this
// package's own sentences, chosen by the reply's error code. They contain no
// counters, times or generated names either, so that the same trouble is the same
// sentence from probe to probe.
package probe
