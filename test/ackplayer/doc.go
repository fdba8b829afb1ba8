// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackplayer simulates AWS Controllers for Kubernetes (ACK) and AWS behind them,
// for tests and the demo. It reproduces the observed behaviour of the real
// elasticache-controller on the objects of controllers/ack, pitfalls included, and
// starts a real redis-server for each node of a replication group.
//
//	a sparse spec, at ACK's poll interval of 30 s (the default here is 1 s)
//
//	+0.0s  gen=1  finalizer
//	+0.1s  gen=3  creating    Ready=False   ACK wrote five fields into the spec
//	+30s   gen=4  available   Ready=True    and the parameter group, which triggered a reconcile
//
//	a full spec
//
//	+0.0s  gen=1  finalizer
//	+0.1s  gen=1  creating    Ready=False
//	+30s   gen=1  available   Ready=False   derived from the state at the previous reconcile
//	+60s   gen=1  available   Ready=True
//
// A group's endpoint is a TCP relay with a stable address:
//
//	client ──▶ endpoint ──▶ primary ◀── replica        Failover: promoted for real
//
// A reconciler for each kind is ACK's controller (reconciler.go, object.go,
// conditions.go), the account is AWS (account.go, groups.go, resource.go), and a fleet
// holds a group's servers (fleet.go, node.go, relay.go). Faults are injected by the
// methods of Player, or over HTTP by its Handler.
//
// Not simulated: references by ref fields, shards, FieldExport, serverless caches, the
// data of snapshots, changes of encryption in transit, and the signatures of users of
// type iam, who are accepted with any password.
package ackplayer
