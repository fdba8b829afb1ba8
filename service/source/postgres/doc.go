// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package postgres keeps flags in PostgreSQL: as a source of truth for the flag
// service, and as the store behind the admin API.
//
//	admin API ─┐                       ┌─ LISTEN flagcache ─▶ look ─▶ changed(version)
//	           ├─▶ flags ─ trigger ─▶ environments            ▲
//	psql ──────┘     │      version+1      └─ NOTIFY ─────────┘ and every few seconds
//	                 └─▶ audit
//
// The schema's triggers make each change of a flag, whoever makes it, a new
// version of its environment, an audit row and a notification, all in the
// change's own transaction. A notification is a hint and nothing more: the
// version is always read from the table, on the connection that listens, which
// also finds out whether that connection is alive and makes up for hints that are
// lost.
//
// # Epochs
//
// An environment's documents are ordered by (epoch, version). The epoch is the
// time at which the store was made. A store that went back, because a backup was
// restored or a standby that had not caught up was promoted, has versions that
// others have seen with other contents. It gets a new epoch, so that what it
// holds counts as the latest. Two signs tell of it: the table is another one than
// when the epoch was given, or the version is lower than one that was seen.
package postgres
