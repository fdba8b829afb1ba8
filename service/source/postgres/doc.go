// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package postgres stores flags in PostgreSQL: it is a source of truth for the
// flag service, and the store behind the admin API.
//
//	admin API ─┐                       ┌─ LISTEN flagcache ─▶ poll ─▶ changed(version)
//	           ├─▶ flags ─ trigger ─▶ environments            ▲
//	psql ──────┘     │      version+1      └─ NOTIFY ─────────┘ and every few seconds
//	                 └─▶ audit
//
// The schema's triggers give each change of a flag, by whatever client, a new
// version of its environment, an audit row and a notification, all in the
// transaction of the change. A notification is only a hint: the version is
// always read from the table, on the listening connection. Reading it
// periodically also detects a dead connection and covers for lost
// notifications.
//
// # Epochs
//
// An environment's documents are ordered by (epoch, version). The epoch is the
// time at which the store was created. A store that was reset to an earlier
// state, because a backup was restored or a lagging standby was promoted,
// reuses versions that instances have seen with other contents. It gets a new
// epoch, so that its documents are considered the latest. A reset is detected
// in two ways: the table is not the one for which the epoch was assigned, or
// the version is lower than one observed before.
//
// A version does not identify a document: the store is reset while nobody
// watches, or there are two. The state of a document also has the database, by the
// identifier of its server, and a tag that differs for each change.
//
// # Migrations
//
// The first instance of a release migrates the schema. One that cannot, because its role
// may not or because a dump holds a lock, uses the schema of the earlier release and
// tries again later, so that new instances always start.
package postgres
