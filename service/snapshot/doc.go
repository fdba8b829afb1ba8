// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package snapshot decides which flags are served, and keeps them fresh.
//
// Requests read one immutable set. Behind it two loops run, so that trouble with
// Redis never delays a change in the source:
//
//	source ──update──▶ ┌────────────┐ ──Serve──▶ requests
//	                   │ serve loop │
//	        ┌──entry─▶ └────────────┘ ──document──┐
//	        │          ┌────────────┐             │
//	Redis ◀─┴─────────▶│ cache loop │ ◀───────────┘
//	                   └────────────┘
//
// The rules are few. Whichever of source and Redis answers first is served. From
// then on the source wins: while it gives usable documents, Redis is only written
// to, and a message that something changed there makes us look at the source
// again. While the source is broken or absent, a document in Redis that is newer
// than ours is served. A document that is no use, as a whole or because no flag of
// it is left, changes nothing: the last good set goes on serving, its age grows,
// and a metric and the log say so. Nothing is kept on disk.
package snapshot
