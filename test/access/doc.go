// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access has no code of its own: its tests hold what the operator allows in
// ElastiCache to what the flag service and the probe really do there.
//
//	plan ──▶ User (access string) ──▶ ACL of a real redis-server ◀── gate (TLS) ◀─┬── flag service's cache
//	     └─▶ connection Secret ──▶ files of a Service Binding ──────────────────┘└── operator's probe
//
// The gate stands where ElastiCache does: it takes the login, notes every command, and
// passes all of it on. A right that nobody uses fails the test like one that is missing.
package access
