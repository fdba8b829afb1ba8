// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet runs the Redis servers of a replication group: real ones, with TLS and
// ACL users, behind endpoints with stable addresses that follow the primary.
//
//	client ──▶ endpoint ──▶ primary ◀── replica        Failover: promoted for real
package fleet
