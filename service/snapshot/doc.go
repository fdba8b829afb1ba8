// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package snapshot decides which flags are served, and keeps them fresh.
//
// Requests read one immutable set. What is behind it depends on whose the source is.
//
// A file is each instance's own. It wins over all else: while it gives usable
// documents, Redis is only written to, and a message that something changed there
// makes us read the file again. While the file is broken or absent, a document in
// Redis that is newer than ours is served. Two loops, so that trouble with Redis never
// delays a change in the file:
//
//	file ──▶ readOwn ──▶ consider ──Serve──▶ requests
//	                        ▲   │
//	Redis ◀──▶ keepCache ───┘ ◀─┘
//
// A shared source, a database, is asked by one for all:
//
//	source says "version 7"    a message    a while without either
//	          └────────────────────┼────────────────┘
//	                               ▼
//	            Redis: 7 or newer? ── yes ──▶ serve it
//	              │ no           │ cannot be asked
//	              ▼              ▼
//	        whoever has     everyone by itself, one reading at a
//	        the lock        time, at most one a second that fails
//	              └──── load ────┘──▶ serve it ──▶ Redis, message
//
// Versions are (epoch, number); an older document never replaces a newer one, here
// or in Redis. A document that is no use, as a whole or because no flag of it is left,
// changes nothing: the last good set goes on serving, for ever if need be, its age
// grows, and a metric and the log say so. One that lost more than half of the flags is
// read a second time before it counts. With Options.LastGoodFile the flags outlive the
// process too; anything that source or Redis say comes before them.
package snapshot
