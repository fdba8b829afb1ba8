// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access compares the permissions that the operator grants in ElastiCache with
// the commands that the flag service and the probe send. It has tests only.
//
//	plan ──▶ User (access string) ──▶ ACL of a real redis-server ◀── gate (TLS) ◀─┬── flag service's cache
//	     └─▶ connection Secret ──▶ files of a Service Binding ──────────────────┘└── operator's probe
//
// The gate takes the place of ElastiCache: it records the login and every command, and
// forwards them. An unused permission fails the test as a missing one does.
package access
