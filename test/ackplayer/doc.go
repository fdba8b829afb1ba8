// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackplayer plays AWS Controllers for Kubernetes, and AWS behind them, for
// tests and the demo. It takes the objects of controllers/ack through what was
// observed of the real elasticache-controller, with what bites an operator there,
// and starts a real redis-server for each node of a replication group.
//
//	a sparse spec, at ACK's poll of 30 s (a player's poll is 1 s)
//
//	+0.0s  gen=1  finalizer
//	+0.1s  gen=3  creating    Ready=False   ACK wrote five fields into the spec
//	+30s   gen=4  available   Ready=True    and now the parameter group, which woke it
//
//	a full spec
//
//	+0.0s  gen=1  finalizer
//	+0.1s  gen=1  creating    Ready=False
//	+30s   gen=1  available   Ready=False   judged by what was seen at the look before
//	+60s   gen=1  available   Ready=True
//
// A group's endpoint is a relay of the player's, which stays where it is while the
// servers behind it change:
//
//	client ──▶ endpoint ──▶ primary ◀── replica        Failover: promoted for real
//
// The parts: a looker for each kind is ACK's controller (look.go, object.go,
// conditions.go); the account is AWS (account.go, groups.go, thing.go); a fleet is
// a group's servers (fleet.go, node.go, relay.go). Player's methods, or Handler over
// HTTP, make things go wrong.
//
// What is not played: references by ref fields, shards, FieldExport, serverless
// caches, data of snapshots, change of encryption in transit, and the signatures of
// users of type iam, whom any password lets in.
package ackplayer
