// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package snapshot decides which flags are served and keeps them fresh.
//
// Requests read one immutable set. How it is refreshed depends on whether the
// source is shared.
//
// A file belongs to each instance and takes precedence over all else: while it is
// usable, Redis is only written to, and a change message makes the instance read
// the file again. While the file is invalid or absent, a newer document in Redis is
// served. There are two loops, so that a failing Redis never delays a change of the
// file:
//
//	file ──▶ readOwnSource ──▶ consider ──Serve──▶ requests
//	                        ▲   │
//	Redis ◀──▶ syncCache ───┘ ◀─┘
//
// A published document has a number, which orders it among those that other instances put
// into Redis: the highest that was seen is served, wherever it was read. The kubelets of
// other nodes may have updated their mounts before. A document of a file, which may be in
// Redis during an upgrade, precedes all numbers. Instances that read files do not use numbered
// documents, and replace them in Redis by their own; instances that read numbers do not
// replace those.
//
// A shared source, such as a database, is read by one instance for all:
//
//	source reports version 7     a message    an interval without either
//	          └────────────────────┼────────────────┘
//	                               ▼
//	            Redis: 7 or newer? ── yes ──▶ serve it
//	              │ no           │ unavailable
//	              ▼              ▼
//	        the holder of   each instance for itself, one read at a
//	        the lock        time, at most one failure per second
//	              └──── load ────┘──▶ serve it ──▶ Redis, message
//
// A document in Redis is a hint. It is served if the source confirms it: its store,
// version and tag are those that the source last reported. Until the source first
// reports, for a second, nothing from Redis is served; while it is silent, newer
// documents of its store are. What the source then does not confirm is dropped, and
// the source's document is served, even if its version is older. A document of
// another store is neither served nor replaced.
//
// Redis only saves work. A new instance waits for its first reply for a quarter of a second. Whatever it contains, such as a lock that is never
// released, the wait for it is bounded in all; then the source is read without it.
//
// Versions are (epoch, number); an older document never replaces a newer one that the
// source has, neither here nor in Redis. A document that is unusable, as a whole or because all
// its flags were rejected, changes nothing: the last good set is still served,
// without time limit; its age grows, and a metric and the log report it. A document
// that lost more than half of the flags is read a second time before it is served.
// With Options.LastGoodFile the flags survive a restart; any document from the
// source or Redis takes precedence over them.
package snapshot
